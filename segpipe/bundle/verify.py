"""Whether a package is what it says, and does on this machine what it did where it was made."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from segpipe.bundle.open import Package, open_package
from segpipe.bundle.unpack import folder_of
from segpipe.bundle.verdict import Proof, Verdict, versions_here
from segpipe.bundle.verify_worker import VerifyOrder
from segpipe.errors import ModelError
from segpipe.inference.crew import Crew, crew_of, how_it_ended
from segpipe.inference.messages import error_from_json

_PROGRAM = "segpipe.bundle.verify_worker"
_LOOK_SECONDS = 0.05
"""Between two looks at the worker's memory: it takes about a tenth of a gigabyte in that time at most."""
_FREE_SHARE = 0.9
_GB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """Of all that the networks of a package do.

    Attributes:
        seconds: from the start of the process.
        memory_gb: of the process, with the libraries; 0: nine tenths of what is free at the beginning.
    """

    seconds: float = 1800.0
    memory_gb: float = 0.0

    @property
    def memory(self) -> int:
        """In bytes."""
        return int(self.memory_gb * _GB) or int(psutil.virtual_memory().available * _FREE_SHARE)


def verify(path: Path, device: str = "auto", limits: Limits | None = None) -> Verdict:
    """Look a package through, then segment its samples on this machine and compare.

    Nothing of it is executed but the graphs of its networks, in a process of their own that is ended when it takes too long or too much.

    Raises:
        ModelError: the package is refused, a model in it cannot be read or says other than the package, or a limit was reached.
        ConfigError: no such device, or no room to unpack it.
        DataError: a sample cannot be segmented.
    """
    package = open_package(path)
    level = logging.getLogger("segpipe").getEffectiveLevel()
    order = VerifyOrder(str(folder_of(package).absolute()), package.sha256, str(path), device, level)
    with crew_of(order, 1, _PROGRAM) as crew:
        proof = _heard(crew, package, limits or Limits())
    return Verdict(package, proof.device, proof.compared, proof.skipped, versions_here(proof.device))


def _heard(crew: Crew, package: Package, limits: Limits) -> Proof:
    """What the worker says, while it stays within the limits."""
    end, most = time.monotonic() + limits.seconds, limits.memory
    process = psutil.Process(crew.workers[0].pid)
    while True:
        event = crew.event(_LOOK_SECONDS)
        if event is not None:
            worker, message = event
            if message is None:
                raise ModelError(f"{package.path}: refused: the process that ran its network {how_it_ended(worker.code())}")
            if "refused" in message:
                raise error_from_json(message["refused"])
            return Proof.of(message["proof"])
        if time.monotonic() > end:
            cure = "do not use it, ask who made it, or give --timeout SECONDS on a slow machine"
            raise ModelError(f"{package.path}: refused: its samples take more than {limits.seconds:g} s: {cure}")
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.memory_info().rss > most:
                cure = "do not use it, ask who made it, or give --memory-gb"
                raise ModelError(f"{package.path}: refused: its network takes more than {most / _GB:.1f} GB for a sample: {cure}")
