import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from segpipe.training.heap import keep_freed_memory
import torch
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
def use():
    for _ in range(10):
        torch.ones(25_000_000)  # 100 MB each
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def fetched(word: str) -> tuple[bool, int]:
    """Whether memory is kept, and how many pages ten large arrays then fetch from the system."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, word], capture_output=True, text=True, check=True, timeout=100)
    kept, pages = done.stdout.split()
    return kept == "1", int(pages)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be asked")
def test_freed_memory_is_not_fetched_again() -> None:
    kept, pages = fetched("keep")
    if not kept:
        pytest.skip("this C library cannot be asked")
    assert pages * resource.getpagesize() < 100_000_000 < fetched("leave")[1] * resource.getpagesize()
