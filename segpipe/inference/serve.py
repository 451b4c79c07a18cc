"""What a worker loads before its first scan; the part of it that needs torch."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import torch

from segpipe.inference.computing import Wanted, choose_computing
from segpipe.inference.messages import Message, Order
from segpipe.inference.predictor import Predictor
from segpipe.inference.request import check_format, format_suffix
from segpipe.inference.segment import Segmenter
from segpipe.inference.task import FolderOptions
from segpipe.package.device import choose_device
from segpipe.package.model_file import load_models


def make_segmenter(order: Order) -> tuple[Segmenter, Message]:
    """The segmenter that is ordered, and what the command is told of it.

    Raises:
        ModelError, ConfigError: see `load_models`, `choose_device`, `choose_computing`, `Predictor`, `check_format`.
    """
    if order.threads or 0 < order.threads_most < torch.get_num_threads():
        torch.set_num_threads(order.threads or order.threads_most)
    device = choose_device(order.device)
    models = [model for path in order.models for model in load_models(Path(path), device)]
    precision: Any = order.precision
    runtime: Any = order.runtime
    predicting = partial(Predictor, device=device, overlap=order.overlap, batch=order.batch, flips=order.tta, memory_gb=order.memory_gb)
    predicting(models)  # refuses models that do not fit together before one is converted
    computing = choose_computing(models, device, Wanted(runtime, precision, order.threads))
    predictor = predicting(computing.models, precision="bf16" if computing.bf16 else "fp32")
    suffix = format_suffix(order.format)
    check_format(suffix, predictor.plan.pictures)
    segmenter = Segmenter(predictor, Path(order.out), suffix, FolderOptions(order.format, order.probabilities))
    return segmenter, {"ready": dataclasses.asdict(segmenter.task.facts), "passes": predictor.passes}
