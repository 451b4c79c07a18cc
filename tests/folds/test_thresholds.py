"""Offsets are chosen where held-out cases speak for them, as a plain trial on all voxels would choose them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from segpipe.folds import thresholds
from segpipe.folds.thresholds import OFFSETS, Doubt, dice_with, doubt_of
from segpipe.prepare.readout import Readout

CLASSES, REGIONS = Readout(), Readout(paint=(1, 2))


def case(seed: int, readout: Readout, timid: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (N, V) of a network that gives the last output `timid` less than it should, and the truth."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(0, 3, (4000,), generator=generator)
    noise = torch.randn((3, 4000), generator=generator)
    scores = 1.5 * torch.nn.functional.one_hot(true, 3).T + noise
    if readout.paint:
        scores = torch.stack([scores[1:].amax(0) - scores[0], scores[2] - scores[:2].amax(0)])
    scores[-1] -= timid
    return scores.float(), true


def plain_dice(scores: torch.Tensor, true: torch.Tensor, readout: Readout, offsets: list[float]) -> list[float]:
    moved = scores + torch.tensor(offsets)[:, None]
    predicted = torch.where(moved[1] > 0, 2, torch.where(moved[0] > 0, 1, 0)) if readout.paint else moved.argmax(0)
    return [float(2 * ((predicted == c) & (true == c)).sum() / ((predicted == c).sum() + (true == c).sum())) for c in (1, 2)]


@pytest.mark.parametrize("readout", [CLASSES, REGIONS])
def test_the_dice_of_the_doubtful_voxels_is_that_of_all(readout: Readout) -> None:
    cases = [case(seed, readout, 0.5) for seed in range(2)]
    doubts = [doubt_of(scores, true, readout, 3) for scores, true in cases]
    assert all(0 < doubt.scores.shape[1] < 4000 for doubt in doubts)
    zeros = [0.0] * doubts[0].scores.shape[0]
    for offsets in (zeros, [*zeros[:-1], 0.85], [-0.85, *zeros[1:-1], 0.85], [0.2, *zeros[1:]]):
        expected = [plain_dice(scores, true, readout, offsets) for scores, true in cases]
        assert dice_with(doubts, readout, offsets) == pytest.approx(np.array(expected), abs=1e-6)


def test_a_sample_of_the_doubtful_voxels_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, true = case(0, CLASSES, 0.5)
    whole = dice_with([doubt_of(scores, true, CLASSES, 3)], CLASSES, [0.0, 0.0, 0.4])
    monkeypatch.setattr(thresholds, "_MOST_VOXELS", 1000)
    sampled = doubt_of(scores, true, CLASSES, 3)
    assert sampled.scores.shape[1] == 1000
    assert dice_with([sampled], CLASSES, [0.0, 0.0, 0.4]) == pytest.approx(whole, abs=0.03)


def test_a_label_that_is_in_neither_counts_as_right() -> None:
    doubt = doubt_of(torch.tensor([[3.0, 3.0], [0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]), CLASSES, 3)
    assert dice_with([doubt], CLASSES, [0.0, 0.0, 0.0]).tolist() == [[1.0, 1.0]]


def trial(monkeypatch: pytest.MonkeyPatch, doubts: list[Doubt], readout: Readout) -> tuple[tuple[float, ...], list[thresholds.Moved]]:
    """`choose_offsets` on given cases."""

    labels = [SimpleNamespace(name=name) for name in ("background", "organ", "lesion")]
    predictor = SimpleNamespace(plan=SimpleNamespace(labels=labels, targets={"whole": (1, 2), "core": (2,)}))
    monkeypatch.setattr(thresholds, "predictors", lambda *_: [(predictor, [])])
    monkeypatch.setattr(thresholds, "readout_of", lambda _: readout)
    monkeypatch.setattr(thresholds, "_doubts", lambda *_: doubts)
    return thresholds.choose_offsets(None, [], [], None)  # type: ignore[arg-type]


@pytest.mark.parametrize("readout", [CLASSES, REGIONS])
def test_a_timid_output_is_helped_and_a_fair_one_left_alone(monkeypatch: pytest.MonkeyPatch, readout: Readout) -> None:
    doubts = [doubt_of(*case(seed, readout, 0.85), readout, 3) for seed in range(4)]
    offsets, tried = trial(monkeypatch, doubts, readout)
    assert offsets[-1] > 0 and offsets[-1] in OFFSETS
    last = tried[-1]
    assert last.output == ("core" if readout.paint else "lesion")
    assert last.after > last.before and not last.refusal and last.to_dict()["accepted"]
    zeros = [0.0] * len(offsets)
    assert dice_with(doubts, readout, offsets).mean() > dice_with(doubts, readout, zeros).mean()
    assert (dice_with(doubts, readout, offsets).mean(0) >= dice_with(doubts, readout, zeros).mean(0)).all()


def test_what_gains_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-9.0, -9.0]])  # right as they are
    offsets, tried = trial(monkeypatch, [doubt_of(scores, torch.tensor([0, 1]), CLASSES, 3)], CLASSES)
    assert offsets == () and [one.refusal for one in tried] == ["no gain", "no gain"]


def test_no_scan_to_try_them_on_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert trial(monkeypatch, [], CLASSES) == ((), [])
    assert "no scan on which thresholds could be tried" in caplog.text
