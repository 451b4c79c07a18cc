"""The sheet of patches: written whole, from the data as training sees it, outlines where the labels are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from segpipe.commands.preview import AUGMENTED, Row, _draw, _row, _sheet, preview
from segpipe.dataset.case import Case
from segpipe.errors import ConfigError, DataError
from segpipe.patches.augment import Augment
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan
from segpipe.settings import AugmentSettings, DatasetSettings, Effect, PlanSettings, Settings
from segpipe.training.pictures import save_figure

NETWORK = NetworkPlan("unet", (4, 8), ((3, 3), (3, 3)), ((1, 1), (2, 2)))
PLAN = Plan(
    task="discs",
    dims=2,
    channels=(Channel("grey", "zscore"),),
    labels=(Label(0, 0, "background"), Label(1, 255, "disc")),
    orient=False,
    axes=(0, 1, 2),
    spacing_mm=None,
    patch_size=(24, 32, 1),
    batch_size=2,
    nonzero=False,
    flips=(True, True, False),
    network=NETWORK,
)


def write_pictures(root: Path, count: int = 5, colour: bool = False) -> None:
    """Bright discs on noise, and their masks."""
    generator = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    row, column = np.mgrid[:48, :40]
    for number in range(count):
        disc = (row - 20 - number) ** 2 + (column - 15) ** 2 < 64
        values = np.clip(generator.normal(60, 15, (48, 40)) + 120 * disc, 0, 255).astype(np.uint8)
        Image.fromarray(np.stack([values] * 3, -1) if colour else values).save(root / "images" / f"case{number}.png")
        Image.fromarray((255 * disc).astype(np.uint8)).save(root / "labels" / f"case{number}.png")


def settings_for(root: Path, out: Path | str) -> Settings:
    return Settings(
        out=str(out),
        dataset=DatasetSettings(root=str(root)),
        plan=PlanSettings(patch_size=[24, 32]),
        augment=AugmentSettings(rotate=Effect(1.0, -30, 30), flip=Effect(0.5)),
    )


@pytest.mark.parametrize("colour", [False, True])
def test_a_folder_of_pictures_gives_one_sheet(tmp_path: Path, colour: bool) -> None:
    write_pictures(tmp_path / "data", colour=colour)
    outcome = preview(settings_for(tmp_path / "data", tmp_path / "new" / "sheet.png"))
    assert outcome.exit_code == 0
    assert "4 cases" in outcome.shown[0]
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 300
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["sheet.png"]


def test_the_same_seed_gives_the_same_sheet(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", 2)
    for name in ("a.png", "b.png"):
        preview(settings_for(tmp_path / "data", tmp_path / name))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    preview(replace(settings_for(tmp_path / "data", tmp_path / "c.png"), seed=1))
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


def test_without_augmentation_every_patch_of_a_row_is_the_original(tmp_path: Path) -> None:
    write_pictures(tmp_path, 1)
    case = Case("case0", (tmp_path / "images" / "case0.png",), tmp_path / "labels" / "case0.png")
    row = _row(case, PLAN, Augment(AugmentSettings(), 2, PLAN.flips, PLAN.patch_size), 0)
    assert row.images.shape == (1 + AUGMENTED, 1, 24, 32, 1)
    assert bool((row.images == row.images[:1]).all())
    assert bool((row.labels == row.labels[:1]).all())
    assert row.labels.sum() > 0


@pytest.mark.parametrize("orient", [False, True])
def test_outlines_lie_around_the_structure_that_they_name(orient: bool) -> None:
    label = torch.zeros((1, 24, 32, 3), dtype=torch.uint8)
    label[:, 3:9, 4:19, 1] = 1
    axes = Figure().subplots()
    _draw(axes, Row("box", label[:, None].float(), label), 0, replace(PLAN, orient=orient))
    rows, columns = np.nonzero(np.asarray(axes.images[0].get_array()) > 0.5)
    assert len(rows) == 6 * 15
    corners = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])  # (column, row)
    np.testing.assert_allclose(corners.min(0), (columns.min() - 0.5, rows.min() - 0.5))
    np.testing.assert_allclose(corners.max(0), (columns.max() + 0.5, rows.max() + 0.5))


def test_the_sheet_must_be_a_png_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out is .*sheet.jpg.*must end in .png"):
        preview(settings_for(tmp_path / "missing", "sheet.jpg"))


def test_an_impossible_range_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    chosen = replace(settings_for(tmp_path / "missing", "sheet.png"), augment=AugmentSettings(scale=Effect(0.2, 0.0, 1.0)))
    with pytest.raises(ConfigError, match=r"augment\.scale\.low is 0"):
        preview(chosen)


def test_a_missing_data_set_and_an_unwritable_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        preview(settings_for(tmp_path / "missing", tmp_path / "sheet.png"))
    write_pictures(tmp_path / "data", 1)
    with pytest.raises(ConfigError, match="cannot be written"):
        preview(settings_for(tmp_path / "data", tmp_path / "data" / "images" / "case0.png" / "sheet.png"))


def test_real_anisotropic_scans_give_a_sheet(tmp_path: Path, real_scans: Path) -> None:
    chosen = Settings(out=str(tmp_path / "cord.png"), dataset=DatasetSettings(root=str(real_scans / "spinal_cord")))
    assert preview(chosen).exit_code == 0
    assert (tmp_path / "cord.png").stat().st_size > 10_000


def test_thin_patches_and_names_with_dollars_are_drawn(tmp_path: Path) -> None:
    label = torch.zeros((1 + AUGMENTED, 1, 32, 3), dtype=torch.uint8)
    label[:, :, 4:19, 1] = 1
    plan = replace(PLAN, labels=(Label(0, 0, "background"), Label(1, 1, "$^$")), patch_size=(1, 32, 3), dims=3)
    save_figure(_sheet([Row("pat_$3^$x", label[:, None].float(), label)], plan), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").exists()
