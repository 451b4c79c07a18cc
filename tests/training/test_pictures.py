"""Pictures are written, and slices stand as radiologists see them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from segpipe.plan.plan import Label, Plan
from segpipe.training.pictures import _busy_slices, _letters, draw_curves, draw_overlay, upright


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
        draw_overlay(image, label, label, "empty", tmp_path / f"{name}_empty.png", plan)
        label[4:9, 4:9] = 2
        draw_overlay(image, label, label, name, tmp_path / "deep" / f"{name}.png", plan)
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
