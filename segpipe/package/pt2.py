"""`torch.export`: an eager network -> a `.pt2` archive of plain operators, and back.

torch's own reader of these archives unpickles, imports and evaluates what the file says; `check_pt2` looks at every record and every
string first, and only what a network of plain operators needs comes through.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from segpipe.errors import ModelError
from segpipe.package.archive import packed, rewritten
from segpipe.package.pt2_check import GRAPH, SAMPLES, check_pt2
from segpipe.package.torchscript import Network

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def exported_program(network: nn.Module, shape: tuple[int, ...]) -> ExportedProgram:
    """The network as one graph of operators, for any batch and any spatial size.

    Args:
        network: (B, C, *spatial) -> logits, eager, in evaluation mode.
        shape: (B, C, *spatial) of the example that goes through it; batch 2 or more and axes that differ, or torch takes
            them for constants.

    Raises:
        ModelError: it uses Python that `torch.export` does not know, or takes some sizes only.
    """
    from torch.export import Dim  # not with the module: a `.ts` needs none of it, and its import takes a tenth of a second

    free = {0: Dim.DYNAMIC, **dict.fromkeys(range(2, len(shape)), Dim.DYNAMIC)}
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(network, (torch.zeros(shape),), dynamic_shapes=(free,))
    except Exception as error:  # torch.export has errors of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{type(network).__name__} cannot be exported by torch.export: {reason}: use --to ts") from error


def pt2_bytes(program: ExportedProgram, extra: dict[str, str]) -> bytes:
    """A `.pt2` archive with text files inside.

    The example, the lines of source that each operator came from and the ranges that were true of the example are left out.

    Args:
        extra: name -> text; found again under `extra/` in the archive.
    """
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files=extra)
    return rewritten(buffer.getvalue(), _cleaned)


def _cleaned(name: str, content: bytes) -> bytes:
    if name.endswith(f"/{SAMPLES}"):
        return b""
    if not name.endswith(f"/{GRAPH}"):
        return content
    told = json.loads(content)
    told["guards_code"] = []
    _forget_sources(told)
    return json.dumps(told).encode()


def _forget_sources(value: Any) -> None:
    """Empty the `metadata` of every node: stack traces hold the paths of Python files on the machine that made it."""
    if isinstance(value, dict):
        if "metadata" in value:
            value["metadata"] = {}
        for item in value.values():
            _forget_sources(item)
    elif isinstance(value, list):
        for item in value:
            _forget_sources(item)


def load_pt2(records: dict[str, bytes], path: Path, device: torch.device | str) -> tuple[nn.Module, Network]:
    """The network of a `.pt2` archive on `device`: as a module, and as the callable that it is.

    Args:
        records: of the archive, as `checked_records` gives them.

    Raises:
        ModelError: it holds anything but plain operators and tensors, or torch cannot read it.
    """
    from torch.export.passes import move_to_device_pass

    check_pt2(records, path)
    try:
        with quiet():
            # packed anew, so that torch reads the very records that were looked at
            program = torch.export.load(io.BytesIO(packed(records)))
            if torch.device(device).type != "cpu":
                program = move_to_device_pass(program, str(device))
            module = program.module(check_guards=False)  # the file was proved on several sizes; guards are those of its example
    except Exception as error:  # a file of another version can fail anywhere in torch's reader
        raise ModelError(f"{path}: torch {torch.__version__} cannot read the network: use the torch it was made with, or newer") from error
    return module, cast(Network, module)


@contextmanager
def quiet() -> Iterator[None]:
    """What torch's exporters and readers warn of and log concerns their authors."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
