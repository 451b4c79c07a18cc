"""What a worker loads before its first scan; the part of it that needs torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from segpipe.inference.messages import Message, Order
from segpipe.inference.predictor import Predictor
from segpipe.inference.request import check_format, format_suffix
from segpipe.inference.segment import Segmenter
from segpipe.inference.task import FolderOptions
from segpipe.package.device import choose_device
from segpipe.package.model_file import load_models
from segpipe.package.precision import fast_bf16


def make_segmenter(order: Order) -> tuple[Segmenter, Message]:
    """The segmenter that is ordered, and what the command is told of it.

    Raises:
        ModelError, ConfigError: see `load_models`, `choose_device`, `Predictor`, `check_format`.
    """
    if order.threads or 0 < order.threads_most < torch.get_num_threads():
        torch.set_num_threads(order.threads or order.threads_most)
    device = choose_device(order.device)
    models = [model for path in order.models for model in load_models(Path(path), device)]
    precision: Any = order.precision
    predictor = Predictor(models, device, order.overlap, order.batch, precision)
    suffix = format_suffix(order.format)
    check_format(suffix, predictor.plan.pictures)
    segmenter = Segmenter(predictor, Path(order.out), suffix, FolderOptions(order.format, order.probabilities))
    faster = not predictor.bf16 and fast_bf16(device)
    return segmenter, {"ready": dataclasses.asdict(segmenter.task.facts), "bf16_is_faster": faster}
