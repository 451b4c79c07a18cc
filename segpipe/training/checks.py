"""Settings that no data can make right, refused before anything is read."""

from __future__ import annotations

from pathlib import Path

from segpipe.errors import ConfigError, DataError
from segpipe.patches.augment import check_augment
from segpipe.plan.configurations import check_configurations
from segpipe.settings import NetworkSettings, Settings
from segpipe.training.custom import check_callback, check_network
from segpipe.training.loggers import check_loggers


def check_settings(settings: Settings) -> None:
    """What the types and ranges of single settings do not tell.

    Raises:
        ConfigError: naming the setting.
        DataError: there is nothing at `dataset.root`.
    """
    check_augment(settings.augment)
    check_network(settings.network.target)
    check_callback(settings.training.callback)
    check_loggers(settings.training)
    check_configurations(settings)
    _check_stages(settings)
    _check_root(settings.dataset.root)


def _check_root(root: str) -> None:
    """As `survey` and `load_dataset` tell it, but before a word about the folder of the run."""
    if not root:
        raise ConfigError("dataset.root is empty; say where the data set lies: dataset.root=DIR")
    path = Path(root).expanduser()
    if not path.exists():
        raise DataError(f"{path}: does not exist; must be the folder of the data set or a manifest file: check dataset.root")


def _check_stages(settings: Settings) -> None:
    """Numbers for each encoder stage, where the settings fix how many stages there are; else `Stages` looks at the network."""
    count = 0 if settings.network.target else _stages(settings.network)
    for key, values in (("thaw", settings.training.thaw), ("stage_lr", settings.training.stage_lr)):
        if count and len(values) > count:
            raise ConfigError(f"training.{key} has {len(values)} numbers; the network has {count} encoder stages: give at most {count}")


def _stages(network: NetworkSettings) -> int:
    """Number of stages; 0: the plan decides."""
    return len(network.strides) or network.stages or len(network.features)
