"""Pictures are written, and slices stand as radiologists see them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from segpipe.plan.plan import Label, Plan
from segpipe.training import pictures
from segpipe.training.pictures import (
    Overlay,
    _busy_slices,
    _letters,
    cut_overlay,
    draw_curves,
    draw_overlay,
    outline,
    save_figure,
    spared,
    upright,
)


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
        image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
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


def test_the_letters_lie_inside_the_panel_and_are_seen_on_white(make_plan: Callable[[int], Plan]) -> None:
    figure = Figure(figsize=(4, 4))
    FigureCanvasAgg(figure)
    drawn = figure.subplots()
    _letters(drawn, make_plan(3))
    inside = drawn.get_window_extent()
    for text in drawn.texts:
        box = text.get_window_extent()
        assert inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
        assert text.get_path_effects()


def _drawn(overlay: Overlay, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The sheet before it is written."""
    sheets: list[Figure] = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: sheets.append(figure))
    draw_overlay(overlay, Path("unused.png"), plan)
    return sheets[0]


def test_truth_and_prediction_have_a_panel_each(make_plan: Callable[[int], Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.zeros((20, 18, 9), np.uint8)
    prediction = truth.copy()
    truth[2:6, 2:6, 3:6], prediction[12:17, 12:17, 3:6] = 1, 1
    overlay = cut_overlay("a", np.random.default_rng(0).normal(size=(2, 20, 18, 9)).astype(np.float32), truth, prediction)
    panels = _drawn(overlay, make_plan(3), monkeypatch).axes
    assert len(panels) == 2 * len(overlay.slices)
    assert [panel.get_title() for panel in panels[:2]] == ["truth", "prediction"]
    for number, panel in enumerate(panels):
        labels = (truth, prediction)[number % 2][:, :, overlay.slices[number // 2]]
        rows, columns = np.nonzero(upright(labels, picture=False))
        corners = np.concatenate([path.vertices for path in panel.collections[0].get_paths()])  # (column, row)
        np.testing.assert_allclose(corners.min(0), (columns.min() - 0.5, rows.min() - 0.5))
        np.testing.assert_allclose(corners.max(0), (columns.max() + 0.5, rows.max() + 0.5))
        assert panel.get_xlim() == (-0.5, 19.5)


def test_a_colour_picture_is_drawn_large_and_in_its_colours(make_plan: Callable[[int], Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dataclasses.replace(make_plan(2), orient=False)
    image = np.random.default_rng(0).uniform(0, 1, (3, 40, 50, 1)).astype(np.float32)
    label = np.zeros((40, 50, 1), np.uint8)
    label[5:9, 5:9] = 1
    sheet = _drawn(cut_overlay("a", image, label, label), plan, monkeypatch)
    assert sheet.get_figwidth() > 13
    for panel in sheet.axes:
        pixels = np.asarray(panel.images[0].get_array())
        np.testing.assert_allclose(pixels, np.moveaxis(image[..., 0], 0, -1), atol=0.02)  # (rows, columns, 3)


@pytest.mark.parametrize("pixels", [12, 400])
def test_the_outlines_of_labels_that_touch_are_both_seen(pixels: int, tmp_path: Path) -> None:
    figure = Figure(figsize=(3, 3))
    panel = figure.add_axes((0, 0, 1, 1))
    panel.imshow(np.ones((pixels, pixels)), cmap="gray", vmin=0, vmax=1)
    half = np.zeros((pixels, pixels), bool)
    half[:, : pixels // 2] = True
    outline(panel, half, "#ff0000")
    outline(panel, ~half, "#0000ff")
    save_figure(figure, tmp_path / "two.png")
    with Image.open(tmp_path / "two.png") as picture:
        middle = np.array(picture.convert("RGB"), dtype=int)[150, 140:160]
    assert (middle[:, 0] - middle[:, 2]).max() > 150 and (middle[:, 2] - middle[:, 0]).max() > 150


@pytest.mark.parametrize("shape", [(20, 1, 9), (1, 18, 9), (1, 1, 1)])
def test_scans_that_are_one_voxel_wide_are_drawn(tmp_path: Path, make_plan: Callable[[int], Plan], shape: tuple[int, int, int]) -> None:
    label = np.zeros(shape, np.uint8)
    label[: shape[0] // 2 + 1, : shape[1] // 2 + 1, 0] = 1
    draw_overlay(cut_overlay("thin", label[None].astype(np.float32), label, label), tmp_path / "thin.png", make_plan(3))
    assert (tmp_path / "thin.png").exists()


def test_names_with_dollars_are_no_formulas(tmp_path: Path, make_plan: Callable[[int], Plan]) -> None:
    name = "pat_$3^$x"
    plan = dataclasses.replace(make_plan(3), labels=(Label(0, 0, "background"), Label(1, 1, name)))
    label = np.zeros((9, 9, 3), np.uint8)
    label[2:5, 2:5] = 1
    draw_overlay(cut_overlay(name, label[None].astype(np.float32), label, label), tmp_path / "overlay.png", plan)
    draw_curves([{"step": "1", f"dice {name}": "0.5"}], [name], tmp_path / "curves.png")
    assert (tmp_path / "overlay.png").exists() and (tmp_path / "curves.png").exists()


def test_an_overlay_keeps_its_slices_and_their_numbers() -> None:
    label = np.zeros((4, 4, 30), np.uint8)
    label[1, 1, 10:20] = 1
    image = np.arange(2 * 4 * 4 * 30, dtype=np.float32).reshape(2, 4, 4, 30)
    overlay = cut_overlay("a", image, label, label)
    assert overlay.image.shape == (2, 4, 4, len(overlay.slices))
    assert all((overlay.image[..., n] == image[..., k]).all() for n, k in enumerate(overlay.slices))


def test_a_picture_that_cannot_be_drawn_is_told_and_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with spared("the overlay of case a"):
        raise TypeError("Input z\nmust be")
    assert caplog.messages == ["the overlay of case a could not be drawn (TypeError: Input z must be); everything else is kept"]
