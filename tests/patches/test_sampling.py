"""Patch positions, centres and cutting, against loops over voxels and MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms.utils import map_classes_to_indices

from segpipe.patches import sampling
from segpipe.patches.sampling import cut, draw_centre, positions

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_label(shape: tuple[int, int, int] = (9, 11, 6), classes: int = 4) -> torch.Tensor:
    return torch.randint(0, classes, shape, generator=seeded(3), dtype=torch.uint8)


def test_positions_are_those_of_monai() -> None:
    label = some_label()
    expected = map_classes_to_indices(label[None], num_classes=4)
    found = positions(label)
    assert sorted(found) == [1, 2, 3]
    for value, indices in found.items():
        assert indices.dtype == torch.int64
        assert indices.tolist() == expected[value].tolist()


def test_positions_of_a_large_class_are_thinned_evenly_as_monai_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_POSITIONS", 50)
    label = some_label()
    expected = map_classes_to_indices(label[None], num_classes=4, max_samples_per_class=50)
    for value, indices in positions(label).items():
        assert len(indices) == 50
        assert indices.tolist() == expected[value].tolist()


def test_positions_of_an_empty_label_are_empty() -> None:
    assert positions(torch.zeros((4, 4, 4), dtype=torch.uint8)) == {}


@settings(max_examples=150, deadline=None)
@given(shape=SHAPES, size=SHAPES, seed=st.integers(0, 10_000))
def test_a_foreground_patch_holds_a_labelled_voxel_and_stays_inside(shape: tuple, size: tuple, seed: int) -> None:
    label = torch.zeros(shape, dtype=torch.uint8)
    voxel = tuple(int(torch.randint(n, (1,), generator=seeded(seed + axis))) for axis, n in enumerate(shape))
    label[voxel] = 2
    centre = draw_centre(shape, positions(label), True, size, seeded(seed))
    patch = cut(label[None].float(), label, centre, size)[1]
    assert int((patch == 2).sum()) == 1
    for n, s, c in zip(shape, size, centre, strict=True):
        start = c - s // 2
        assert (start >= 0 and start + s <= n) if s <= n else (start <= 0 and start + s >= n)


def test_every_present_class_is_drawn_equally_often() -> None:
    label = torch.zeros((20, 20, 20), dtype=torch.uint8)
    label[2:18, 2:18, 2:10] = 1  # 2048 voxels
    label[5, 5, 15] = 2  # a single voxel
    places, generator = positions(label), seeded(0)
    hits = [int(label[draw_centre((20, 20, 20), places, True, (1, 1, 1), generator)]) for _ in range(400)]
    assert set(hits) == {1, 2}
    assert 150 < hits.count(2) < 250


def test_background_patches_reach_every_place_inside_and_none_outside() -> None:
    generator = seeded(0)
    starts = {draw_centre((7, 5, 1), {}, False, (4, 5, 1), generator)[0] - 2 for _ in range(200)}
    assert starts == {0, 1, 2, 3}


def test_patches_anywhere_see_the_corners_of_the_volume_as_the_windows_of_a_prediction_do() -> None:
    generator, shape, size = seeded(0), (192, 192, 20), (96, 96, 20)
    starts = [tuple(c - s // 2 for c, s in zip(draw_centre(shape, {}, False, size, generator), size, strict=True)) for _ in range(400)]
    for corner in ((0, 0, 0), (0, 96, 0), (96, 0, 0), (96, 96, 0)):
        assert 12 <= starts.count(corner) <= 45
    covered = torch.zeros(shape[:2])
    for i, j, _ in starts:
        covered[i : i + 96, j : j + 96] += 1
    assert covered.min() > 0


def test_foreground_without_any_label_falls_back_to_a_uniform_place() -> None:
    assert draw_centre((7, 5, 3), {}, True, (4, 5, 3), seeded(1)) == draw_centre((7, 5, 3), {}, False, (4, 5, 3), seeded(1))


def test_the_same_seed_draws_the_same_centres() -> None:
    label = some_label()
    first, second = seeded(5), seeded(5)
    places = positions(label)
    for foreground in (True, False) * 10:
        one = draw_centre(tuple(label.shape), places, foreground, (4, 4, 4), first)
        assert one == draw_centre(tuple(label.shape), places, foreground, (4, 4, 4), second)


@settings(max_examples=150, deadline=None)
@given(shape=SHAPES, size=SHAPES, seed=st.integers(0, 10_000))
def test_cutting_equals_a_loop_over_voxels(shape: tuple, size: tuple, seed: int) -> None:
    image = torch.randn((2, *shape), generator=seeded(seed))
    label = torch.randint(0, 3, shape, generator=seeded(seed), dtype=torch.uint8)
    centre = tuple(int(torch.randint(n, (1,), generator=seeded(seed + 7 + axis))) for axis, n in enumerate(shape))
    image_patch, label_patch = cut(image, label, centre, size)
    for index in np.ndindex(*size):
        source = tuple(o + c - s // 2 for o, c, s in zip(index, centre, size, strict=True))
        inside = all(0 <= x < n for x, n in zip(source, shape, strict=True))
        assert int(label_patch[index]) == (int(label[source]) if inside else 0)
        for channel in range(2):
            assert float(image_patch[(channel, *index)]) == (float(image[(channel, *source)]) if inside else 0.0)


def test_a_centre_far_outside_gives_an_empty_patch() -> None:
    image, label = cut(torch.ones(1, 4, 4, 4), torch.ones(4, 4, 4, dtype=torch.uint8), (-20, 30, 2), (3, 3, 3))
    assert image.sum() == 0
    assert label.sum() == 0


def test_a_patch_is_a_copy_and_keeps_its_type() -> None:
    image, label = torch.ones(1, 4, 4, 4), torch.ones(4, 4, 4, dtype=torch.uint8)
    image_patch, label_patch = cut(image, label, (2, 2, 2), (4, 4, 4))
    image_patch.zero_()
    label_patch.zero_()
    assert image.min() == 1
    assert label.min() == 1
    assert (image_patch.dtype, label_patch.dtype) == (torch.float32, torch.uint8)


def test_a_larger_piece_around_the_same_centre_keeps_the_patch_in_its_middle() -> None:
    image, label = torch.randn(1, 12, 13, 11), some_label((12, 13, 11))
    small, _ = cut(image, label, (4, 6, 5), (4, 5, 6))
    large, _ = cut(image, label, (4, 6, 5), (8, 11, 6))
    assert torch.equal(large[:, 2:6, 3:8, :], small)


def test_voxels_that_nobody_has_judged_are_no_class_and_no_centre() -> None:
    label = torch.full((9, 11, 6), 255, dtype=torch.uint8)
    label[:, :, 2] = 0
    label[3:5, 4:6, 2] = 2
    found = positions(label)
    assert sorted(found) == [sampling.JUDGED, 2]
    assert found[2].tolist() == torch.nonzero(label.reshape(-1) == 2)[:, 0].tolist()
    assert found[sampling.JUDGED].tolist() == torch.nonzero(label.reshape(-1) != 255)[:, 0].tolist()
    random = seeded(0)
    anywhere = [draw_centre(label.shape, found, False, (1, 1, 1), random) for _ in range(300)]
    assert {k for _, _, k in anywhere} == {2} and len({(i, j) for i, j, _ in anywhere}) > 80
    assert all(label[draw_centre(label.shape, found, True, (1, 1, 1), random)] == 2 for _ in range(20))
    assert positions(torch.full((2, 2, 2), 255, dtype=torch.uint8)) == {}
