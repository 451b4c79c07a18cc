"""What came of proving a package."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib import metadata as installed
from typing import Any

from segpipe.bundle.open import Package


@dataclass(frozen=True)
class Difference:
    """How one label of a sample compares.

    Attributes:
        dice: 1 where both have none.
        voxels: that only one of the two has.
        expected, found: voxels in each.
    """

    label: str
    dice: float
    voxels: int
    expected: int
    found: int
    fits: bool

    def __str__(self) -> str:
        counts = f"{self.voxels} voxel(s) differ, {self.expected} expected, {self.found} found"
        return f"{self.label}: Dice {self.dice:.4f}, {counts}"


@dataclass(frozen=True)
class Compared:
    """One sample, segmented here by one of the model files."""

    model: str
    sample: str
    labels: list[Difference]

    @property
    def fits(self) -> bool:
        return all(label.fits for label in self.labels)


@dataclass(frozen=True)
class Proof:
    """What was computed.

    Attributes:
        device: on which the first model file ran.
        compared, skipped: see `Verdict`.
    """

    device: str
    compared: list[Compared]
    skipped: list[str]

    @classmethod
    def of(cls, told: dict[str, Any]) -> Proof:
        """What another process has said as plain values."""
        compared = [Compared(one["model"], one["sample"], [Difference(**label) for label in one["labels"]]) for one in told["compared"]]
        return cls(told["device"], compared, told["skipped"])


@dataclass(frozen=True)
class Verdict:
    """What came of a package.

    Attributes:
        package: looked through.
        compared: each sample by each model file.
        skipped: model files that cannot be run here, and why.
        here: versions of this machine, by name.
    """

    package: Package
    device: str
    compared: list[Compared]
    skipped: list[str] = field(default_factory=list)
    here: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return bool(self.compared) and all(one.fits for one in self.compared)

    @property
    def other_versions(self) -> list[str]:
        """What differs between the machine that made it and this one: `torch 2.12.0, here 2.13.0`."""
        made = self.package.document["made_with"]
        return [f"{name} {made[name]}, here {version}" for name, version in self.here.items() if made.get(name, version) != version]


def versions_here(device: str) -> dict[str, str]:
    """Of this machine, by name."""
    versions = {name: installed.version(name) for name in ("torch", "numpy", "monai")}
    return {"python": platform.python_version(), "device": device, **versions}
