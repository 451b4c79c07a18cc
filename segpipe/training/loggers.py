"""TensorBoard and MLflow beside metrics.csv, for those who want them."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path

import pytorch_lightning as pl

from segpipe.errors import ConfigError
from segpipe.settings import TrainingSettings

log = logging.getLogger(__name__)


def check_loggers(training: TrainingSettings) -> None:
    """Refuse a logger that is not installed.

    Raises:
        ConfigError: with the words that install it.
    """
    for wanted, packages in ((training.tensorboard, ("tensorboard", "tensorboardX")), (bool(training.mlflow), ("mlflow",))):
        if wanted and not any(importlib.util.find_spec(package) for package in packages):
            name = packages[0]
            raise ConfigError(
                f"training.{name} is set, but {name} is not installed: pip install 'segpipe[{name}]', or leave training.{name} out"
            )


def build_loggers(training: TrainingSettings, task: str, root: Path) -> list[pl.loggers.Logger]:
    """The loggers that are wanted.

    Args:
        task: the experiment's name in MLflow.
        root: run folder; its name is the run's in MLflow.

    Raises:
        ConfigError: MLflow cannot use the address.
    """
    found: list[pl.loggers.Logger] = []
    if training.tensorboard:
        found.append(pl.loggers.TensorBoardLogger(root, name="tensorboard", version=""))
    if training.mlflow:
        found.append(_mlflow(task, training.mlflow, root.name))
    return found


def _mlflow(name: str, address: str, run_name: str) -> pl.loggers.Logger:
    """A logger whose server has answered."""
    # MLflow wants this word before it writes into a folder, which needs no server and no database: the user has chosen it.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        logger = pl.loggers.MLFlowLogger(name, tracking_uri=address, run_name=run_name)
        log.debug("MLflow run %s", logger.run_id)
    except Exception as error:  # MLflow's own, a server's or a file system's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"training.mlflow is {address!r}, which MLflow cannot use ({reason}); give file:FOLDER or a server's address"
        ) from error
    return logger
