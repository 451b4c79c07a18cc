"""torch.compile, for those who ask for it: where its code is kept, and why it could not make any."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_T = TypeVar("_T")

BACKEND: str | Callable[..., Any] = "inductor"
OPTIONS: dict[str, Any] | None = {"fallback_random": True}
"""Of the backend: dropout draws what it draws without being compiled."""
_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
"""The variable that tells torch where to keep its code."""
_LONGEST = 200
"""Characters of a reason."""


def compiled(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """`function` in code that torch makes at its first call, for the very shapes of that call: of the whole of it, or not at all.

    That first call takes long (a minute for a network on two cores, a few seconds where the code is kept from before) and may fail in any
    way: `reason_of` puts it in words.
    """
    made: Callable[_P, _T] = torch.compile(function, dynamic=False, fullgraph=True, backend=BACKEND, options=_safely(OPTIONS))
    return made


def plain(x: torch.Tensor) -> torch.Tensor:
    """The same numbers in one and the same layout, however x lies in memory: another one would be compiled again."""
    return x.clone(memory_format=torch.contiguous_format)


def reason_of(error: BaseException) -> str:
    """What made torch.compile fail, in one line."""
    while isinstance(inner := getattr(error, "inner_exception", None), BaseException):
        error = inner
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:_LONGEST].rstrip(": ") if lines else type(error).__name__


def failed(error: BaseException) -> bool:
    """Whether it comes of making code, and not of running it: then nothing has been computed yet."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    return isinstance(error, (TorchDynamoException, FailOnRecompileLimitHit))


def _safely(options: dict[str, Any] | None) -> dict[str, Any] | None:
    """The options, and a folder for the code that nobody else may write into.

    torch's own lies in the system's folder for temporary files under a name that anybody may take first, and what lies there is
    unpickled, compiled and run.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # seconds, which nobody else should wait for

    default = default_cache_dir()
    if _is_own(Path(default)):
        return options
    if os.environ.get(_FOLDER, default) == default:  # torch notes its own choice there, too
        os.environ[_FOLDER] = folder = tempfile.mkdtemp(prefix="segpipe-compiled-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return None if options is None else options | {"cpp_cache_precompile_headers": False}  # which would lie there all the same


def _is_own(folder: Path) -> bool:
    """Whether the folder, made where it is not there yet, is the user's, and nobody else may write into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    if not hasattr(os, "geteuid"):  # Windows has a folder for temporary files for each user
        return True
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
