"""Ctrl-C and SIGTERM end a run in order: from the first step of training until the model file is written."""

from __future__ import annotations

import logging
import signal
from types import FrameType

import pytorch_lightning as pl

from segpipe.training.module import SegmentationModule

log = logging.getLogger(__name__)


class OrderlyStop(pl.Callback):
    """Inside its `with`, the first Ctrl-C or SIGTERM ends what is being done after the step or the case in hand; a model follows.
    The next Ctrl-C ends the program.

    The signal's name is put into `module.stopped_by`, which the ranks of a DDP run share at the end of a step.

    Attributes:
        asked: whether a signal has come since training, or since `turn_to`.
    """

    def __init__(self, module: SegmentationModule) -> None:
        self._module = module
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._then = "ending after this step"
        self._first = True
        self.asked = False

    def __enter__(self) -> OrderlyStop:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen()  # Lightning has just put a handler of its own over ours; it gives ours back at the end of training

    def turn_to(self, then: str) -> None:
        """Something else begins.

        Args:
            then: what a signal does from now on, as the user reads it.
        """
        self._then, self.asked = then, False

    def _listen(self) -> None:
        for number in self._before:
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and not self._first:
            raise KeyboardInterrupt
        self._first, self.asked = False, True
        name = signal.Signals(number).name
        self._module.stopped_by = name
        log.warning("%s: %s; a usable model follows (press Ctrl-C again to end at once)", name, self._then)
