"""Which devices `--device` means on this machine; asked of torch in a process of its own, because the server itself loads none."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence

from segpipe.errors import ConfigError

_CUDA = "cuda"
_WORDS = re.compile(r"auto|cpu|cuda(:(0|[1-9][0-9]*))?")
_MOST = 64
_CODE = "import sys; sys.path[:] = {path!r}; import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
"""As of workers: no folder `torch` of the current directory is imported."""
_SECONDS = 300.0


def devices_of(words: Sequence[str], count: Callable[[], int] | None = None) -> tuple[str, ...]:
    """A device for each job at a time, in order: `cuda` is every GPU of this machine, `auto` one GPU or the processor.

    Args:
        count: how many GPUs there are; asked only where one is named.

    Raises:
        ConfigError: another word, or a GPU that is not here.
    """
    for word in words:
        if not _WORDS.fullmatch(word):
            raise ConfigError(f"--device: is {word!r}; must be auto, cpu, cuda (every GPU) or cuda:N")
    gpus = (count or gpu_count)() if any(word.startswith(_CUDA) for word in words) else 0
    found = list[str]()
    for word in words:
        if word.startswith(_CUDA) and not gpus:
            raise ConfigError(f"--device {word}: torch finds no NVIDIA GPU here: give cpu or auto, or run `segpipe doctor`")
        if word == _CUDA:
            found += [f"{_CUDA}:{number}" for number in range(gpus)]
            continue
        if word.startswith(_CUDA) and int(word.partition(":")[2]) >= gpus:
            raise ConfigError(f"--device {word}: this machine has {gpus} GPU(s), counted from cuda:0: give one of those")
        found.append(word)
    if len(found) > _MOST:
        raise ConfigError(f"--device: is given {len(found)} times; must be at most {_MOST}, one for each job at a time")
    return tuple(found)


def gpu_count() -> int:
    """GPUs that torch finds here.

    Raises:
        ConfigError: it cannot tell.
    """
    try:
        program = [sys.executable, "-c", _CODE.format(path=sys.path)]
        return int(subprocess.run(program, check=False, capture_output=True, text=True, timeout=_SECONDS).stdout.split()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise ConfigError("--device: torch does not tell which GPUs are here: run `segpipe doctor`") from error
