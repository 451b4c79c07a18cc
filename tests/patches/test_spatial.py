"""Changes of place against SciPy, MONAI and plain expectations."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Affine
from scipy import ndimage
from torch import Tensor

from segpipe.patches.spatial import CUBES, Move, draw_move, known_spacing, move_patches, plane_axes, read_size, smooth_fields
from segpipe.settings import AugmentSettings, Effect

SPACE = (0, 1, 2)
STILL = Move(torch.eye(3, dtype=torch.float64), (0.0, 0.0, 0.0), (0, 0, 0), 0.0, (), True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def piece(read: tuple[int, int, int], channels: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    image = torch.randn((1, channels, *read), generator=seeded(seed))
    return image, torch.randint(0, 3, (1, *read), generator=seeded(seed), dtype=torch.uint8)


def turned(a: int, b: int, degrees: float) -> Tensor:
    matrix = torch.eye(3, dtype=torch.float64)
    angle = math.radians(degrees)
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[b, a], matrix[a, b] = math.sin(angle), -math.sin(angle)
    return matrix


def always(**effects: tuple[float, float]) -> AugmentSettings:
    return AugmentSettings(**{name: Effect(1.0, *ends) for name, ends in effects.items()})


def moved_by(chosen: AugmentSettings, image: Tensor, label: Tensor, patch: tuple[int, int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    plane = plane_axes(patch, 2 if patch[2] == 1 else 3)
    generator = seeded(seed)
    moves = [draw_move(chosen, patch, plane, (True, True, True), generator) for _ in image]
    return move_patches(image, label, moves, patch, plane, generator)


@pytest.mark.parametrize(
    ("patch", "dims", "plane"),
    [
        ((40, 56, 40), 3, (0, 1, 2)),
        ((64, 64, 1), 2, (0, 1)),
        ((64, 64, 16), 3, (0, 1)),
        ((12, 64, 64), 3, (1, 2)),
        ((60, 60, 20), 3, (0, 1, 2)),
    ],
)
def test_patches_are_mixed_only_in_the_plane_of_their_long_axes(patch: tuple[int, int, int], dims: int, plane: tuple[int, ...]) -> None:
    assert plane_axes(patch, dims) == plane


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [((1.0, 1.0, 3.0), (0, 1, 2)), ((1.0, 1.0, 3.1), (0, 1)), ((4.0, 0.9, 1.2), (1, 2)), ((1.0, 4.0, 4.0), (0, 1, 2))],
)
def test_an_axis_more_than_three_times_as_coarse_as_the_others_is_left_out(
    spacing: tuple[float, float, float], plane: tuple[int, ...]
) -> None:
    assert plane_axes((40, 40, 40), 3, spacing) == plane


def test_a_spacing_that_the_plan_leaves_open_counts_as_cubes() -> None:
    assert known_spacing(None, 3) == known_spacing((0.5, 0.0, 1.0), 3) == known_spacing((0.0, 0.5, 0.0), 2) == CUBES
    assert known_spacing((0.5, 0.7, 0.0), 2) == (0.5, 0.7, 1.0)
    assert known_spacing((0.5, 0.7, 2.0), 3) == (0.5, 0.7, 2.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_rotation_is_one_in_millimetres(seed: int) -> None:
    spacing = (0.7, 1.0, 2.5)
    matrix = draw_move(always(rotate=(-40, 40)), (64, 64, 32), SPACE, (False,) * 3, seeded(seed), spacing).matrix.numpy()
    in_mm = np.diag(spacing) @ matrix @ np.diag(1 / np.array(spacing))
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-12)
    assert np.abs(matrix @ matrix.T - np.eye(3)).max() > 0.1


def test_a_ball_in_millimetres_stays_a_ball_on_voxels_that_are_no_cubes() -> None:
    read, spacing = (41, 41, 17), torch.tensor([1.0, 1.0, 2.5])
    places = torch.stack(torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in read], indexing="ij"), -1)
    label = ((places * spacing).norm(dim=-1) < 12)[None].byte()
    for seed in range(4):
        generator = seeded(seed)
        move = draw_move(always(rotate=(25, 40)), (29, 29, 13), SPACE, (False,) * 3, generator, (1.0, 1.0, 2.5))
        found = move_patches(label[:, None].float(), label, [move], (29, 29, 13), SPACE, generator)[1]
        expected = label[:, 6:35, 6:35, 2:15]
        assert 2 * int((found & expected).sum()) / int(found.sum() + expected.sum()) > 0.96


def test_on_cubes_of_any_width_a_seed_gives_the_same_move() -> None:
    chosen = always(rotate=(-40, 40), scale=(0.7, 1.4), shear=(-0.2, 0.2))
    moves = [draw_move(chosen, (8, 8, 8), SPACE, (True,) * 3, seeded(), (mm, mm, mm)).matrix for mm in (1.0, 0.3, 0.7)]
    assert torch.equal(moves[0], moves[1])
    assert torch.equal(moves[0], moves[2])


def test_without_changes_of_place_only_the_patch_is_read() -> None:
    chosen = AugmentSettings(flip=Effect(0.5), noise=Effect(1.0, 0.0, 1.0), rotate=Effect(0.0, -90.0, 90.0))
    assert read_size(chosen, (40, 56, 40), SPACE) == (40, 56, 40)


@settings(max_examples=60, deadline=None)
@given(
    patch=st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60)),
    degrees=st.floats(0, 180),
    zoom=st.floats(0.3, 2),
    shear=st.floats(0, 0.4),
    spacing=st.tuples(*(st.sampled_from([0.5, 1.0, 1.4, 2.5]),) * 3),
)
def test_each_effect_alone_stays_inside_what_is_read(
    patch: tuple[int, int, int], degrees: float, zoom: float, shear: float, spacing: tuple[float, float, float]
) -> None:
    corners = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * patch * spacing  # in millimetres
    plane = plane_axes(patch, 3, spacing)
    pairs = [(a, b) for a, b in ((0, 1), (1, 2), (0, 2)) if a in plane and b in plane]
    cases = [
        (
            always(rotate=(-degrees, degrees)),
            [turned(a, b, s * degrees * f).numpy() for a, b in pairs for s in (1, -1) for f in (0.2, 0.5, 1)],
        ),
        (always(scale=(zoom, zoom)), [np.diag([1 / zoom if axis in plane else 1.0 for axis in range(3)])]),
    ]
    skew = np.eye(3)
    for a, b in pairs:
        skew[a, b] = skew[b, a] = shear
    cases.append((always(shear=(-shear, shear)), [skew]))
    for chosen, maps in cases:
        read = np.array(read_size(chosen, patch, plane, spacing))
        assert ((read - patch) % 2 == 0).all()
        for matrix in maps:
            assert (np.abs(corners @ matrix.T) / spacing <= read / 2 + 1e-5).all()


def test_a_resampled_patch_equals_scipy() -> None:
    read, patch = (20, 24, 18), (12, 14, 10)
    image, label = piece(read, channels=2)
    matrix = turned(0, 1, 20) @ turned(1, 2, -15) @ torch.diag(torch.tensor([1.2, 1.1, 0.9], dtype=torch.float64))
    move = dataclasses.replace(STILL, matrix=matrix, shift=(1.3, -0.6, 0.4), crop=(2, 0, -1))
    found, found_label = move_patches(image, label, [move], patch, SPACE, seeded())
    back = torch.linalg.inv(matrix).numpy()
    middle_out, middle_in = (np.array(patch) - 1) / 2, (np.array(read) - 1) / 2
    offset = middle_in + np.array(move.crop) - back @ (middle_out + np.array(move.shift))
    for channel in range(2):
        expected = ndimage.affine_transform(image[0, channel].double().numpy(), back, offset, patch, order=1, mode="grid-constant")
        np.testing.assert_allclose(found[0, channel].numpy(), expected, atol=2e-5)
    shares = [
        ndimage.affine_transform((label[0] == c).double().numpy(), back, offset, patch, order=1, mode="grid-constant") for c in (1, 2)
    ]
    best = np.stack([1 - sum(shares), *shares])
    clear = np.sort(best, axis=0)[-1] - np.sort(best, axis=0)[-2] > 1e-4
    assert np.array_equal(found_label[0].numpy()[clear], best.argmax(0)[clear])


def test_a_resampled_patch_equals_monai() -> None:
    image, label = piece((16, 18, 14), channels=2)
    matrix = turned(0, 1, 25) @ turned(2, 0, 10)
    found, _ = move_patches(
        image, label, [dataclasses.replace(STILL, matrix=matrix, shift=(1.0, 0.0, -2.0))], (16, 18, 14), SPACE, seeded()
    )
    forward = torch.eye(4, dtype=torch.float64)
    forward[:3, :3] = torch.linalg.inv(matrix)
    forward[:3, 3] = -torch.linalg.inv(matrix) @ torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64)
    expected = Affine(affine=forward, padding_mode="zeros", image_only=True)(image[0]).as_tensor()
    torch.testing.assert_close(found[0], expected.float(), atol=1e-4, rtol=1e-4)


def test_a_picture_is_resampled_as_its_slice_in_a_volume_is() -> None:
    image, label = piece((24, 20, 1), channels=3)
    move = dataclasses.replace(STILL, matrix=turned(0, 1, 33) * 1.0, shift=(0.5, 2.0, 0.0))
    found, found_label = move_patches(image, label, [move], (12, 10, 1), (0, 1), seeded())
    image3, label3 = image.repeat(1, 1, 1, 1, 3), label.repeat(1, 1, 1, 3)
    expected, expected_label = move_patches(image3, label3, [move], (12, 10, 3), (0, 1), seeded())
    torch.testing.assert_close(found[..., 0], expected[..., 1], atol=1e-5, rtol=1e-5)
    assert torch.equal(found_label[..., 0], expected_label[..., 1])


def test_a_positive_angle_turns_the_first_axis_towards_the_second() -> None:
    image = torch.zeros((1, 1, 21, 21, 1))
    image[0, 0, 16, 10, 0] = 1  # six voxels along i
    found, _ = moved_by(always(rotate=(90, 90)), image, image[:, 0].byte(), (21, 21, 1))
    assert found[0, 0, :, :, 0].argmax() == 10 * 21 + 16  # six voxels along j


def test_translation_moves_structures_by_a_share_of_the_patch() -> None:
    image, label = piece((16, 16, 16))
    found, found_label = moved_by(always(translate=(0.25, 0.25)), image, label, (8, 8, 8))
    torch.testing.assert_close(found, image[:, :, 2:10, 2:10, 2:10], atol=1e-5, rtol=1e-5)
    assert torch.equal(found_label, label[:, 2:10, 2:10, 2:10])


def test_crop_moves_the_patch_by_whole_voxels_without_touching_a_value() -> None:
    image, label = piece((16, 16, 16))
    found, found_label = moved_by(always(crop=(0.25, 0.25)), image, label, (8, 8, 8))
    assert torch.equal(found, image[:, :, 6:14, 6:14, 6:14])
    assert torch.equal(found_label, label[:, 6:14, 6:14, 6:14])


def test_crop_reaches_every_place_in_its_range() -> None:
    line = torch.arange(16.0)[None, None, :, None, None].expand(1, 1, 16, 16, 16)
    starts = {float(moved_by(always(crop=(-0.25, 0.25)), line, line[:, 0].byte(), (8, 8, 8), seed)[0].min()) for seed in range(80)}
    assert starts == {2.0, 3.0, 4.0, 5.0, 6.0}


def test_a_zoom_factor_above_one_makes_structures_larger() -> None:
    label = torch.zeros((1, 40, 40, 40), dtype=torch.uint8)
    label[:, 16:24, 16:24, 16:24] = 1
    image = label[:, None].float()
    larger = moved_by(always(scale=(2.0, 2.0)), image, label, (32, 32, 32))[1]
    smaller = moved_by(always(scale=(0.5, 0.5)), image, label, (20, 20, 20))[1]
    assert int(larger.sum()) == 16**3 - 8  # the corners are rounded: they hold 0.75**3 < 0.5 of the structure
    assert int(smaller.sum()) == 4**3


def test_shear_keeps_the_volume_in_first_order_and_tilts_lines() -> None:
    image = torch.zeros((1, 1, 31, 31, 1))
    image[0, 0, :, 15, 0] = 1  # a line along i
    found, _ = moved_by(always(shear=(0.2, 0.2)), image, image[:, 0].byte(), (21, 21, 1))
    columns = found[0, 0, :, :, 0].argmax(1)
    assert int(columns[-1] - columns[0]) == pytest.approx(0.2 * 20, abs=1)


def test_allowed_axes_are_mirrored_exactly_and_others_never() -> None:
    image, label = piece((6, 5, 4))
    for flips in itertools.product((True, False), repeat=3):
        move = draw_move(AugmentSettings(flip=Effect(1.0)), (6, 5, 4), SPACE, flips, seeded())
        found, found_label = move_patches(image, label, [move], (6, 5, 4), SPACE, seeded())
        axes = [axis for axis in range(3) if flips[axis]]
        assert torch.equal(found, image.flip([axis + 2 for axis in axes]))
        assert torch.equal(found_label, label.flip([axis + 1 for axis in axes]))


def test_mirroring_is_drawn_for_each_axis_on_its_own() -> None:
    generator = seeded()
    drawn = {draw_move(AugmentSettings(flip=Effect(0.5)), (6, 5, 4), SPACE, (True, True, True), generator).flip for _ in range(200)}
    assert len(drawn) == 8


def test_a_forbidden_axis_is_never_mirrored_whatever_else_is_drawn() -> None:
    chosen = always(
        rotate=(-30, 30), scale=(0.7, 1.4), shear=(-0.1, 0.1), translate=(-0.1, 0.1), crop=(-0.1, 0.1), flip=(0, 0), elastic=(0, 2)
    )
    generator = seeded()
    ramp = torch.arange(36.0)[None, None, :, None, None].expand(1, 1, 36, 36, 36)
    for _ in range(25):
        move = draw_move(chosen, (16, 16, 16), SPACE, (False, True, True), generator)
        assert 0 not in move.flip
        found, _ = move_patches(ramp, ramp[:, 0].byte(), [move], (16, 16, 16), SPACE, generator)
        assert found[0, 0, 12, 4:12, 4:12].mean() > found[0, 0, 3, 4:12, 4:12].mean()


def test_image_and_label_move_together() -> None:
    inside = ((torch.stack(torch.meshgrid(*[torch.arange(40.0) - 19.5] * 3, indexing="ij"), -1) / torch.tensor([9.0, 14.0, 6.0])) ** 2).sum(
        -1
    ) < 1
    label = inside[None].byte()
    chosen = always(
        rotate=(-40, 40), scale=(0.7, 1.4), shear=(-0.2, 0.2), translate=(-0.1, 0.1), crop=(-0.1, 0.1), flip=(0, 0), elastic=(2, 2)
    )
    for seed in range(6):
        image, moved_label = moved_by(chosen, label[:, None].float(), label, (24, 28, 22), seed)
        assert int(moved_label.sum()) > 500
        assert torch.equal(image[:, 0] > 0.5, moved_label > 0)


def test_no_class_is_invented() -> None:
    label = torch.tensor([0, 3, 7], dtype=torch.uint8)[torch.randint(0, 3, (1, 24, 24, 24), generator=seeded())]
    chosen = always(rotate=(-40, 40), scale=(0.7, 1.4), shear=(-0.2, 0.2), translate=(-0.1, 0.1), flip=(0, 0), elastic=(2, 2))
    for seed in range(10):
        found = moved_by(chosen, label[:, None].float(), label, (12, 12, 12), seed)[1]
        assert set(found.unique().tolist()) <= {0, 3, 7}


def test_outside_is_zero_and_background() -> None:
    image, label = torch.ones((1, 1, 8, 8, 8)), torch.ones((1, 8, 8, 8), dtype=torch.uint8)
    found, found_label = move_patches(image, label, [dataclasses.replace(STILL, shift=(4.0, 0.0, 0.0))], (8, 8, 8), SPACE, seeded())
    assert torch.equal(found_label[0, :, 0, 0], torch.tensor([0, 0, 0, 0, 1, 1, 1, 1], dtype=torch.uint8))
    torch.testing.assert_close(found[0, 0, :, 0, 0], torch.tensor([0.0, 0, 0, 0, 1, 1, 1, 1]), atol=1e-5, rtol=0)


def test_thick_slices_are_never_mixed() -> None:
    slices = torch.arange(1.0, 11.0)[None, None, None, None, :].expand(1, 1, 60, 60, 10).contiguous()
    chosen = always(rotate=(-180, 180), scale=(0.7, 1.4), shear=(-0.2, 0.2), translate=(-0.2, 0.2), elastic=(2, 2))
    for seed in range(5):
        found, found_label = moved_by(chosen, slices, slices[:, 0].byte(), (32, 32, 8), seed)
        middle = found[0, 0, 14:18, 14:18]
        torch.testing.assert_close(middle, middle.round(), atol=1e-4, rtol=0)
        assert (middle[..., 1:-1].diff(dim=-1) - 1).abs().max() < 1e-3
        assert torch.equal(found_label[0, 14:18, 14:18].float(), middle.round())


def test_the_elastic_field_is_smooth_and_has_unit_deviation_everywhere() -> None:
    generator = seeded()
    fields = smooth_fields((20, 17, 1), 3000, generator)
    assert fields.shape[1:] == (20, 17, 1)
    assert (fields.std(0) - 1).abs().max() < 0.06
    assert fields.mean(0).abs().max() < 0.08
    assert fields.diff(dim=1).abs().mean() < 0.2


def test_the_elastic_displacement_is_in_voxels() -> None:
    ramp = torch.arange(60.0)[None, None, :, None, None].expand(1, 1, 60, 40, 40).contiguous()
    displacement = [
        moved_by(always(elastic=(2, 2)), ramp, ramp[:, 0].byte(), (40, 24, 24), seed)[0] - ramp[:, :, 10:50, 8:32, 8:32]
        for seed in range(12)
    ]
    assert float(torch.cat(displacement).std()) == pytest.approx(2.0, rel=0.2)
