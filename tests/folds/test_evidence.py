"""Post-processing is chosen where held-out label maps speak for it, and only there."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segpipe.commands.train_folds import _rule_table
from segpipe.dataset.case import Case
from segpipe.dataset.split import Split, save_split
from segpipe.evaluation.pairs import Pair, Pairs
from segpipe.folds.evidence import (
    Choice,
    OutOfFold,
    accepted,
    choose_rules,
    dice_of_cases,
    evaluate_held_out,
    predict_held_out,
    true_indices,
)
from segpipe.folds.members import Member
from segpipe.geometry.grid import Grid
from segpipe.inference.postprocess import Rule, apply_rules
from segpipe.io.read import read_volume
from segpipe.io.write import write_label_map
from segpipe.package.export import export_model
from segpipe.plan.plan import IGNORED, Channel, Label, NetworkPlan, Plan
from segpipe.settings import Settings

GRID = Grid((20, 18, 16), np.diag([1.0, 2.0, 3.0, 1.0]))
VOXEL_ML = 0.006


def plan(**changes: object) -> Plan:
    labels = (Label(0, 0, "background"), Label(1, 5, "organ"), Label(2, 9, "lesion"))
    values = {"flips": (True,) * 3, "network": NetworkPlan("unet", (4,), ((3, 3, 3),), ((1, 1, 1),))}
    return Plan("t", 3, (Channel("MR", "zscore"),), labels, True, (0, 1, 2), None, (8, 8, 8), 1, False, **(values | changes))  # type: ignore[arg-type]


def truth() -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint8)
    array[3:11, 3:11, 3:11] = 5
    array[12:15, 12:15, 3:6] = 9
    array[12:14, 4:6, 12:14] = 9  # lesions may be several
    return array


def found(tmp_path: Path, predictions: list[np.ndarray], truths: list[np.ndarray], **changes: object) -> OutOfFold:
    pairs = []
    for number, (prediction, true) in enumerate(zip(predictions, truths, strict=True)):
        places = tmp_path / f"p{number}.nii.gz", tmp_path / f"t{number}.nii.gz"
        for place, array in zip(places, (prediction, true), strict=True):
            write_label_map(place, array, GRID)
        pairs.append(Pair(f"case{number}", *places))
    return OutOfFold(Pairs(tuple(pairs)), plan(**changes))


def test_false_components_are_taken_away_where_that_helps_and_true_ones_stay(tmp_path: Path) -> None:
    predictions = []
    for number in range(3):
        array = truth()
        array[17:19, 2 + number, 2] = 5  # two voxels of organ elsewhere
        predictions.append(array)
    held = found(tmp_path, predictions, [truth()] * 3)
    choices = choose_rules(held)
    rules = accepted(choices)
    assert rules == [Rule(1, keep_largest=True)]
    by_rule = {choice.rule: choice for choice in choices}
    assert by_rule[Rule(2, keep_largest=True)].after < by_rule[Rule(2, keep_largest=True)].before == 1.0
    assert by_rule[Rule(0, keep_largest=True)].refusal == "no gain"  # it would take the lesions
    assert by_rule[Rule(2, keep_largest=True)].refusal == "no gain"
    assert rules and by_rule[rules[0]].after == 1.0
    for prediction in predictions:
        clean = apply_rules(np.where(prediction == 5, 1, np.where(prediction == 9, 2, 0)), rules, VOXEL_ML)
        assert np.array_equal(clean, np.where(truth() == 5, 1, np.where(truth() == 9, 2, 0)))


def test_a_minimum_size_is_found_where_small_parts_are_false_and_larger_ones_true(tmp_path: Path) -> None:
    small = truth()
    small[17, 2, 2] = 9
    choices = choose_rules(found(tmp_path, [small, truth()], [truth()] * 2))
    (rule,) = accepted(choices)
    assert rule.label == 2 and not rule.keep_largest and VOXEL_ML < rule.minimum_ml <= 8 * VOXEL_ML


def test_lone_findings_everywhere_are_cured_by_the_largest_of_all_labels(tmp_path: Path) -> None:
    whole = np.zeros(GRID.shape, np.uint8)
    whole[3:11, 3:11, 3:11] = 5
    whole[11:13, 3:11, 3:11] = 9  # one body of two labels
    noisy = whole.copy()
    noisy[17, 2, 2], noisy[17, 15, 13] = 5, 9
    choices = choose_rules(found(tmp_path, [noisy], [whole]))
    assert accepted(choices) == [Rule(0, keep_largest=True)]
    assert choices[0] == Choice(Rule(0, keep_largest=True), choices[0].before, 1.0)


def test_perfect_label_maps_are_left_alone(tmp_path: Path) -> None:
    assert accepted(choose_rules(found(tmp_path, [truth()], [truth()]))) == []


def test_a_false_finding_in_a_case_without_the_label_counts(tmp_path: Path) -> None:
    without = np.where(truth() == 9, 0, truth()).astype(np.uint8)
    false = without.copy()
    false[17, 2, 2] = 9
    (rule,) = accepted(choose_rules(found(tmp_path, [truth(), false], [truth(), without])))
    assert rule.label == 2 and rule.minimum_ml > VOXEL_ML


def test_voxels_that_nobody_has_judged_do_not_count(tmp_path: Path) -> None:
    prediction, true = truth(), truth()
    prediction[17, 2, 2] = 5
    true[16:] = 77
    held = found(tmp_path, [prediction], [true], ignore=(77,))
    assert accepted(choose_rules(held)) == []
    assert evaluate_held_out(held).cases[0].score(5).dice == pytest.approx(1.0)


def test_slices_that_nobody_annotated_do_not_count(tmp_path: Path) -> None:
    prediction, true = truth(), truth()
    true[:, :, 4:8] = 0  # of the organ's slices 3 to 10 these were left out
    held = found(tmp_path, [prediction], [true], sparse="z")
    assert dice_of_cases(held).tolist() == [[1.0, 1.0]]
    assert dice_of_cases(found(tmp_path, [prediction], [true])).min() < 0.9
    affine = np.array([[0, 0, 1.0, 0], [0, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]])
    write_label_map(tmp_path / "turned.nii.gz", np.swapaxes(true, 0, 2), Grid((16, 18, 20), affine))
    judged = true_indices(read_volume(tmp_path / "turned.nii.gz"), plan(sparse="z")) != IGNORED
    assert judged.all((1, 2)).tolist() == [bool(true[:, :, k].any()) for k in range(16)]


def test_the_table_tells_why_a_rule_was_refused(tmp_path: Path) -> None:
    whole = np.zeros(GRID.shape, np.uint8)
    whole[3:11, 3:11, 3:11] = 5
    whole[11:13, 3:11, 3:11] = 9
    whole[17, 2, 2] = 9  # a lesion on its own, which the largest component of all labels would take away
    noisy = whole.copy()
    noisy[15:19, 10:15, 8:13] = 5  # 100 voxels
    choices = choose_rules(found(tmp_path, [noisy], [whole]))
    assert (choices[0].after > choices[0].before, choices[0].refusal) == (True, "a label falls")
    taken = list(_rule_table(choices, plan()).columns[-1].cells)
    assert taken[0] == "no: a label falls"
    assert taken[1:6] == ["yes", "no: no gain", "no: no gain", "no: no gain", "no: another rule gains more"]
    assert set(taken[6:]) == {"no: no gain"}


class Above(nn.Module):
    """Class 1 above zero."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-x, x, -x], 1) * self.scale


def test_held_out_cases_unlike_the_training_scans_are_told_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = {"spacing_mm": {"lowest": [0.1] * 3, "highest": [0.2] * 3}, "channels": [{"low": [0.0, 5.0], "high": [0.0, 5.0]}]}
    cases = []
    for name in "abcd":
        write_label_map(tmp_path / f"{name}.nii.gz", truth(), GRID)
        cases.append(Case(name, (tmp_path / f"{name}.nii.gz",), tmp_path / f"{name}.nii.gz"))
    members = [Member(fold, 0, f"fold_{fold}") for fold in (0, 1)]
    for member, train, held in zip(members, ("ab", "cd"), ("cd", "ab"), strict=True):
        (tmp_path / member.name).mkdir()
        save_split(tmp_path / member.name / "splits.json", Split(tuple(train), tuple(held), ""))
        export_model(Above(), plan(), {"training_data": told}, tmp_path / member.name / "model.ts")
    with caplog.at_level(logging.WARNING):
        predict_held_out(tmp_path, members, cases, Settings(device="cpu"), tmp_path / "out_of_fold")
        logging.getLogger("segpipe.inference.folder").warning("something else")
    table = tmp_path / "out_of_fold" / "predictions.csv"
    assert caplog.messages == [
        f"4 of 4 out-of-fold cases, or their label maps, are unlike the training scans: see the column warning of {table}",
        "something else",
    ]
    assert table.read_text().count("spacing along x") == 4
    caplog.clear()
    predict_held_out(tmp_path, members, cases, Settings(device="cpu"), tmp_path / "out_of_fold", (0.5, 0.0, 0.0))
    assert len(caplog.messages) == 1  # that they are done again with other thresholds is no news to anybody
    assert table.read_text().count("offsets=0.5") == 4
