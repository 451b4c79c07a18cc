"""What a worker loads before its first scan; the part of it that needs torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from segpipe.inference.api import load_model
from segpipe.inference.messages import Message, Order
from segpipe.inference.pipeline import side_by_side_pays
from segpipe.inference.request import check_format, format_suffix
from segpipe.inference.segment import Segmenter
from segpipe.inference.task import FolderOptions


def make_segmenter(order: Order) -> tuple[Segmenter, Message]:
    """The segmenter that is ordered, and what the command is told of it.

    Raises:
        ModelError, ConfigError: see `load_model`, `check_format`.
    """
    if order.threads or 0 < order.threads_most < torch.get_num_threads():
        torch.set_num_threads(order.threads or order.threads_most)
    precision: Any = order.precision
    runtime: Any = order.runtime
    predictor = load_model(
        order.models,
        order.device,
        overlap=order.overlap,
        batch=order.batch,
        precision=precision,
        runtime=runtime,
        tta=order.tta,
        memory_gb=order.memory_gb,
        threads=order.threads,
        compile=order.compile,
        sha256=order.hashes,
    )
    suffix = format_suffix(order.format)
    check_format(suffix, predictor.plan.pictures)
    seg_type: Any = order.seg_type
    words = {"seg_type": seg_type, "series_description": order.series_description, "series_number": order.series_number}
    segmenter = Segmenter(predictor, Path(order.out), suffix, FolderOptions(order.format, order.probabilities, **words))
    ahead = side_by_side_pays(predictor, order.threads_most) if order.side_by_side is None else order.side_by_side
    return segmenter, {"ready": dataclasses.asdict(segmenter.task.facts), "passes": predictor.passes, "ahead": ahead}
