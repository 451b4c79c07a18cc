"""Pictures are written, and slices stand as radiologists see them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from segpipe.plan.plan import Label, Plan
from segpipe.training.pictures import _busy_slices, _letters, cut_overlay, draw_curves, draw_overlay, spared, upright


def test_curves_are_drawn_from_rows_with_gaps(tmp_path: Path) -> None:
    rows = [{"step": "1", "loss": "2.0", "lr": "0.1", "dice mean": ""}, {"step": "2", "loss": "1.0", "lr": "0.05", "dice mean": "0.5"}]
    draw_curves(rows, ["organ"], tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 500


def test_an_overlay_is_drawn_for_volumes_and_pictures_and_empty_labels(tmp_path: Path, make_plan: Callable[[int], Plan]) -> None:
    labels = (Label(0, 0, "background"), Label(1, 1, "one"), Label(2, 2, "two"))
    for name, shape in (("volume", (20, 18, 9)), ("picture", (20, 18, 1))):
        plan = dataclasses.replace(make_plan(3), labels=labels, orient=name == "volume")
        label = np.zeros(shape, np.uint8)
        image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        draw_overlay(cut_overlay("empty", image, label, label), tmp_path / f"{name}_empty.png", plan)
        label[4:9, 4:9] = 2
        draw_overlay(cut_overlay(name, image, label, label), tmp_path / "deep" / f"{name}.png", plan)
        assert (tmp_path / "deep" / f"{name}.png").stat().st_size > 1000


def test_in_a_slice_of_an_ras_volume_anterior_is_up_and_right_is_on_the_left() -> None:
    plane = np.zeros((3, 4))
    plane[2, 3] = 1.0  # the most right and most anterior voxel
    assert upright(plane, picture=False)[0, 0] == 1.0
    assert upright(plane, picture=True)[2, 3] == 1.0


def test_the_slices_shown_are_those_with_labels() -> None:
    label = np.zeros((4, 4, 30), np.uint8)
    label[1, 1, 10:20] = 1
    assert all(10 <= k < 20 for k in _busy_slices(label))


def test_the_letters_tell_the_side_of_the_patient_at_each_edge(make_plan: Callable[[int], Plan]) -> None:
    for axes, expected in (((0, 1, 2), ["R", "L", "A", "P"]), ((1, 2, 0), ["A", "P", "S", "I"]), ((0, 2, 1), ["R", "L", "S", "I"])):
        drawn = Figure().subplots()
        _letters(drawn, dataclasses.replace(make_plan(3), axes=axes))
        assert [text.get_text() for text in drawn.texts] == expected  # left, right, top, bottom


@pytest.mark.parametrize("shape", [(20, 1, 9), (1, 18, 9), (1, 1, 1)])
def test_scans_that_are_one_voxel_wide_are_drawn(tmp_path: Path, make_plan: Callable[[int], Plan], shape: tuple[int, int, int]) -> None:
    label = np.zeros(shape, np.uint8)
    label[: shape[0] // 2 + 1, : shape[1] // 2 + 1, 0] = 1
    draw_overlay(cut_overlay("thin", label.astype(np.float32), label, label), tmp_path / "thin.png", make_plan(3))
    assert (tmp_path / "thin.png").exists()


def test_names_with_dollars_are_no_formulas(tmp_path: Path, make_plan: Callable[[int], Plan]) -> None:
    name = "pat_$3^$x"
    plan = dataclasses.replace(make_plan(3), labels=(Label(0, 0, "background"), Label(1, 1, name)))
    label = np.zeros((9, 9, 3), np.uint8)
    label[2:5, 2:5] = 1
    draw_overlay(cut_overlay(name, label.astype(np.float32), label, label), tmp_path / "overlay.png", plan)
    draw_curves([{"step": "1", f"dice {name}": "0.5"}], [name], tmp_path / "curves.png")
    assert (tmp_path / "overlay.png").exists() and (tmp_path / "curves.png").exists()


def test_an_overlay_keeps_its_slices_and_their_numbers() -> None:
    label = np.zeros((4, 4, 30), np.uint8)
    label[1, 1, 10:20] = 1
    image = np.arange(4 * 4 * 30, dtype=np.float32).reshape(4, 4, 30)
    overlay = cut_overlay("a", image, label, label)
    assert overlay.image.shape == (4, 4, len(overlay.slices))
    assert all((overlay.image[:, :, n] == image[:, :, k]).all() for n, k in enumerate(overlay.slices))


def test_a_picture_that_cannot_be_drawn_is_told_and_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with spared("the overlay of case a"):
        raise TypeError("Input z\nmust be")
    assert caplog.messages == ["the overlay of case a could not be drawn (TypeError: Input z must be); everything else is kept"]
