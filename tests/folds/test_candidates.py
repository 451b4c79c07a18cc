"""The configuration that held-out cases speak for becomes the model; two together only where they gain."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segpipe.dataset.case import Case
from segpipe.dataset.split import Split, save_split
from segpipe.evaluation.pairs import Pairs
from segpipe.folds.candidates import Candidate, best_of, try_candidates
from segpipe.folds.evidence import OutOfFold
from segpipe.folds.members import Member
from segpipe.geometry.grid import Volume
from segpipe.io.write import write_label_map, write_volume
from segpipe.package.export import export_model
from segpipe.plan.plan import Channel
from segpipe.settings import Settings
from tests.folds.test_evidence import GRID, plan, truth


def candidate(dice: float, *configurations: str) -> Candidate:
    return Candidate(configurations, (), Path(), OutOfFold(Pairs(()), plan()), dice)


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ((0.80, 0.82, 0.81), ("b",)),
        ((0.80, 0.82, 0.83), ("a", "b")),
        ((0.80, 0.82, 0.82005), ("b",)),  # not worth the time of two
        ((0.80, 0.80, 0.80), ("a",)),
    ],
)
def test_the_highest_dice_is_taken_and_of_equals_the_simpler(dice: tuple[float, float, float], expected: tuple[str, ...]) -> None:
    one, two, both = candidate(dice[0], "a"), candidate(dice[1], "b"), candidate(dice[2], "a", "b")
    assert best_of([one, two, both]).configurations == expected


class Coordinates(nn.Module):
    """The organ above a threshold, the lesion above another; certain by a factor."""

    def __init__(self, organ: float, lesion: float, certain: float) -> None:
        super().__init__()
        self.organ, self.lesion, self.certain = organ, lesion, certain
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        organ, lesion = (x - self.organ) * self.certain, (x - self.lesion) * self.certain * 2
        return torch.cat([torch.zeros_like(x), organ, organ + lesion], 1) * self.weight


def test_each_alone_and_both_together_predict_what_they_held_out(tmp_path: Path) -> None:
    image = np.where(truth() == 9, 4.0, np.where(truth() == 5, 2.0, 0.0)).astype(np.float32)[None]
    cases = []
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(image, GRID))
        write_label_map(tmp_path / f"{name}_label.nii.gz", truth(), GRID)
        cases.append(Case(name, (tmp_path / f"{name}.nii.gz",), tmp_path / f"{name}_label.nii.gz"))
    members = [Member(None, 0, "2d", "2d"), Member(None, 0, "3d", "3d")]
    networks = {"2d": Coordinates(1.0, 5.0, 1.0), "3d": Coordinates(1.0, 3.0, 9.0)}  # 2D misses the lesion, and is less certain
    plain = dataclasses.replace(plan(), channels=(Channel("MR", "none"),))
    for member in members:
        root = member.root(tmp_path)
        root.mkdir()
        save_split(root / "splits.json", Split(("c",), ("a", "b"), ""))
        own = dataclasses.replace(plain, dims=2, patch_size=(8, 8, 1)) if member.name == "2d" else plain
        export_model(networks[member.name], own, {}, root / "model.ts")
    candidates = try_candidates(tmp_path, members, cases, Settings(device="cpu"))
    assert [one.configurations for one in candidates] == [("2d",), ("3d",), ("2d", "3d")]
    dice = [one.mean_dice for one in candidates]
    assert 0.4 < dice[0] < 0.5 and dice[1:] == [1.0, 1.0]  # in 2D the lesion is taken for a part of the organ
    assert best_of(candidates).name == "3d"
    assert sorted(path.name for path in (tmp_path / "out_of_fold").iterdir()) == ["2d", "2d+3d", "3d"]
