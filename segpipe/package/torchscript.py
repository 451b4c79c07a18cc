"""TorchScript: the one module that touches `torch.jit`, whose functions warn that they will give way to torch.export."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn
from torch.jit.frontend import FrontendError

from segpipe.errors import ModelError
from segpipe.package.archive import rewritten

Network = Callable[[torch.Tensor], torch.Tensor]
"""(B, C, *spatial) -> logits (B, N, *spatial); a loaded module without the class that made it."""


@contextmanager
def _no_deprecation() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def script_bytes(network: nn.Module, extra: dict[str, str]) -> bytes:
    """A TorchScript file of `network` (scripted, not traced, so that it takes any size) with text files inside.

    Args:
        extra: name -> text; found again under `extra/` in the archive.

    Raises:
        ModelError: the network uses Python that TorchScript does not know.
    """
    buffer = io.BytesIO()
    try:
        with _no_deprecation():
            scripted = network if isinstance(network, torch.jit.ScriptModule) else torch.jit.script(network)
            torch.jit.save(scripted, buffer, _extra_files=extra)
    except (RuntimeError, TypeError, OSError, FrontendError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(":")
        raise ModelError(f"{type(network).__name__} cannot be scripted: {reason}: use only what TorchScript knows in forward") from error
    # debug records hold the paths of Python files on the machine that made it
    return rewritten(buffer.getvalue(), lambda name, content: None if name.endswith(".debug_pkl") else content)


def load_network(data: bytes, device: torch.device | str) -> tuple[nn.Module, Network]:
    """The network of a TorchScript file, in evaluation mode on `device`: as a module, and as the callable that it is.

    Raises:
        RuntimeError: torch cannot read it.
    """
    with _no_deprecation():
        module = torch.jit.load(io.BytesIO(data), map_location=torch.device(device))
    module.eval()
    return module, cast(Network, module)
