"""Batches hold what they promise and depend on seed and step alone."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from segpipe.dataset.case import Case
from segpipe.errors import DataError
from segpipe.geometry.grid import Grid
from segpipe.patches.sampling import positions
from segpipe.prepare.prepared import Prepared, Trace
from segpipe.training.data import PatchBatches, PatchData, TrainingCase, loader_workers, prepare_cases

SIZE = (8, 8, 4)
SIZES = (SIZE, SIZE)


def make_case(name: str, shape: tuple[int, int, int] = (20, 18, 9), labelled: bool = True) -> TrainingCase:
    random = np.random.default_rng(len(name))
    image = torch.from_numpy(random.normal(size=(1, *shape)).astype(np.float32))
    label = torch.zeros(shape, dtype=torch.uint8)
    if labelled:
        label[3:6, 4:7, 2:4] = 1
    trace = Trace(Grid(shape, np.eye(4)), (0, 1, 2), (False,) * 3, tuple((0, n) for n in shape), shape)
    return TrainingCase(name, Prepared(image, label, trace), positions(label))


def labelled_patches(batch: dict[str, Any]) -> int:
    return int((batch["label"].flatten(1).amax(1) > 0).sum())


def test_every_batch_has_the_guaranteed_share_of_foreground() -> None:
    batches = PatchBatches([make_case("a"), make_case("bb", labelled=False)], SIZES, 5, 0.4, seed=1)
    for step in range(20):
        batch = batches.draw(step)
        assert labelled_patches(batch) >= 2
        assert batch["image"].shape == (5, 1, *SIZE)


@pytest.mark.parametrize(("size", "share"), [(2, 0.67), (1, 0.5), (4, 0.67), (3, 1.0), (2, 0.0)])
def test_the_share_of_foreground_holds_over_the_run_also_where_a_batch_cannot_divide_it(size: int, share: float) -> None:
    # Only one case of two has a label, so a patch of the other one is never centred on a labelled voxel.
    batches = PatchBatches([make_case("a"), make_case("bb", labelled=False)], SIZES, size, share, seed=1)
    forced = [batches._forced(step + 1) - batches._forced(step) for step in range(100)]
    assert sum(forced) == math.floor(round(share * size * 100, 6))
    assert max(forced) - min(forced) <= 1
    assert all(labelled_patches(batches.draw(step)) >= forced[step] for step in range(12))


def test_small_batches_see_more_than_the_labelled_places() -> None:
    batches = PatchBatches([make_case("a"), make_case("bb", labelled=False)], SIZES, 2, 0.67, seed=1)
    names = [name for step in range(60) for name in batches.draw(step)["cases"]]
    assert names.count("bb") > 5


def test_a_batch_depends_on_seed_step_and_rank_alone() -> None:
    cases = [make_case("a"), make_case("bb")]
    one, two = PatchBatches(cases, SIZES, 2, 0.5, 7), PatchBatches(cases, SIZES, 2, 0.5, 7)
    one.draw(0)
    assert torch.equal(one.draw(5)["image"], two.draw(5)["image"])
    assert not torch.equal(one.draw(5)["image"], one.draw(6)["image"])
    two.rank = 1
    assert not torch.equal(one.draw(5)["image"], two.draw(5)["image"])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_the_steps_in_their_order_from_the_first_on(workers: int) -> None:
    batches = PatchBatches([make_case("a")], SIZES, 2, 0.5, 7)
    batches.first_step = 3
    data = PatchData(batches, workers)
    loader = iter(data.train_dataloader())
    assert [next(loader)["step"] for _ in range(5)] == [3, 4, 5, 6, 7]


def test_scans_smaller_than_the_patch_are_padded() -> None:
    batch = PatchBatches([make_case("a", (6, 7, 4))], ((16, 8, 8), (16, 8, 8)), 2, 1.0, 0).draw(0)
    assert batch["image"].shape == (2, 1, 16, 8, 8)


def test_the_margin_that_is_read_for_rotation_does_not_keep_patches_away_from_the_border() -> None:
    case = make_case("a", (24, 8, 4), labelled=False)
    index = torch.arange(24.0).view(1, 24, 1, 1).expand(1, 24, 8, 4)
    case = dataclasses.replace(case, prepared=dataclasses.replace(case.prepared, image=index))
    batches = PatchBatches([case, make_case("bb")], (SIZE, (20, 20, 16)), 1, 0.0, 0)
    middles = [batch["image"][0, 0, 6:14].flatten() for batch in map(batches.draw, range(60)) if batch["cases"] == ["a"]]
    seen = {int(value) for middle in middles for value in middle.unique()}
    assert seen == set(range(24))


def test_a_data_set_without_any_foreground_is_refused() -> None:
    with pytest.raises(DataError, match="labelled voxel"):
        PatchBatches([make_case("a", labelled=False)], SIZES, 2, 0.5, 0)


def test_cases_that_do_not_fit_into_memory_are_read_from_disk_and_are_the_same(tmp_path: Path) -> None:
    from segpipe.dataset.phantom import write_phantom
    from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan

    write_phantom(tmp_path / "data", "ct", cases=2, seed=1, size="small")
    images = sorted((tmp_path / "data").rglob("images*/*"))
    labels = sorted((tmp_path / "data").rglob("labels*/*"))
    cases = [Case(image.name, (image,), label) for image, label in zip(images, labels, strict=True)]
    names = tuple(Label(n, n, f"label {n}") for n in range(5))
    network = NetworkPlan("unet", (4,), ((3, 3, 3),), ((1, 1, 1),))
    plan = Plan("t", 3, (Channel("CT", "zscore"),), names, True, (0, 1, 2), (2.0, 2.0, 3.0), SIZE, 2, False, (True,) * 3, network)
    kept = prepare_cases(cases, plan, 1, 4.0, tmp_path / "cache")
    stored = prepare_cases(cases, plan, 1, 0.0, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 4
    for one, two in zip(kept, stored, strict=True):
        assert torch.equal(one.prepared.image, two.prepared.image)
        assert torch.equal(one.label, two.label)
    first = PatchBatches(kept, SIZES, 2, 0.5, 0).draw(1)
    assert torch.equal(first["image"], PatchBatches(stored, SIZES, 2, 0.5, 0).draw(1)["image"])


def test_loaders_are_started_for_a_gpu_alone_and_share_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.training.data.available_cores", lambda: 12)
    monkeypatch.setattr("pathlib.Path.is_dir", lambda path: True)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2_000_000_000))
    assert [loader_workers(wanted, "cpu", 1000) for wanted in (-1, 0, 3)] == [0, 0, 3]
    assert [loader_workers(wanted, "cuda", 1000) for wanted in (-1, 0, 9)] == [4, 0, 9]
    assert loader_workers(-1, "cuda", 1000, processes=3) == 2
    assert loader_workers(-1, "cuda", 150_000_000) == 2  # three batches of each in half of the shared memory
    assert loader_workers(-1, "cuda", 150_000_000, processes=2) == 1
    assert loader_workers(-1, "cuda", 400_000_000) == 0


def test_a_batch_knows_its_bytes() -> None:
    batches = PatchBatches([make_case("a")], (SIZE, (10, 10, 6)), 3, 0.5, 0)
    batch = batches.draw(0)
    assert batches.batch_bytes == sum(batch[kind].numel() * batch[kind].element_size() for kind in ("image", "label"))
