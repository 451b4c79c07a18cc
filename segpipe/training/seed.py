"""Numbers that depend on nothing but the run's seed and a place in it: a resumed run draws what an uninterrupted one would."""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, *place: int | str) -> int:
    """A 63-bit seed for one place, such as `(seed, "patch", step, rank)`; equal on every machine."""
    digest = hashlib.sha256(":".join(map(str, (seed, *place))).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, *place: int | str) -> torch.Generator:
    """A CPU generator for one place."""
    return torch.Generator().manual_seed(derived_seed(seed, *place))


def seed_global(seed: int, device: torch.device) -> None:
    """Set torch's global generators: the CPU's, and that of `device`.

    `torch.manual_seed` does more: for each kind of device that is not there it writes down the stack, which takes milliseconds.
    """
    torch.random.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
