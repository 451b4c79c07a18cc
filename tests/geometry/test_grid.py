"""Grid and Volume: where voxels lie, and which grids are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import GeometryError
from segpipe.geometry.grid import Grid, Volume

OBLIQUE = np.array([[0.8, -0.3, 0.1, -40], [0.3, 0.9, -0.2, 12], [0.0, 0.4, 2.5, 7], [0, 0, 0, 1]])
SHAPE = (5, 4, 3)


def test_spacing_is_the_distance_between_neighbouring_voxel_centres():
    grid = Grid(SHAPE, OBLIQUE)
    for axis in range(3):
        step = np.eye(3)[axis]
        assert np.isclose(grid.spacing_mm[axis], np.linalg.norm(grid.world(step) - grid.world(np.zeros(3))))


def test_world_is_the_affine_applied_to_each_index_of_any_leading_shape():
    index = np.random.default_rng(0).uniform(0, 5, (2, 7, 3))
    world = Grid(SHAPE, OBLIQUE).world(index)
    for a in range(2):
        for b in range(7):
            assert np.allclose(world[a, b], (OBLIQUE @ [*index[a, b], 1])[:3])


def test_volume_of_a_voxel_is_that_of_the_parallelepiped_in_millilitres():
    grid = Grid(SHAPE, OBLIQUE)
    i, j, k = OBLIQUE[:3, :3].T
    assert np.isclose(grid.voxel_volume_ml, abs(np.dot(i, np.cross(j, k))) / 1000)


def test_corners_are_the_eight_outermost_voxel_centres():
    grid = Grid(SHAPE, OBLIQUE)
    expected = {tuple(np.round(grid.world(np.array([i, j, k])), 9)) for i in (0, 4) for j in (0, 3) for k in (0, 2)}
    assert {tuple(np.round(c, 9)) for c in grid.corners_mm()} == expected


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=3))
def test_distance_of_a_shifted_grid_is_the_shift(shift):
    moved = OBLIQUE.copy()
    moved[:3, 3] += shift
    assert np.isclose(Grid(SHAPE, OBLIQUE).distance_mm(Grid(SHAPE, moved)), np.linalg.norm(shift), atol=1e-9)


def test_header_noise_passes_and_a_real_shift_does_not():
    noise, shift = OBLIQUE.copy(), OBLIQUE.copy()
    noise[0, 3] += 9e-4
    shift[0, 3] += 2e-3
    grid = Grid(SHAPE, OBLIQUE)
    assert grid.same_as(Grid(SHAPE, noise))
    assert not grid.same_as(Grid(SHAPE, shift))


def test_grids_of_other_shapes_are_infinitely_far_apart():
    assert Grid(SHAPE, OBLIQUE).distance_mm(Grid((5, 4, 4), OBLIQUE)) == float("inf")


def test_a_cropped_grid_keeps_each_voxel_in_its_place():
    box = ((1, 4), (0, 2), (2, 3))
    cropped = Grid(SHAPE, OBLIQUE).cropped(box)
    assert cropped.shape == (3, 2, 1)
    for index in np.ndindex(cropped.shape):
        whole = np.add(index, (1, 0, 2))
        assert np.allclose(cropped.world(np.array(index)), Grid(SHAPE, OBLIQUE).world(whole))


@pytest.mark.parametrize(
    ("name", "affine"),
    [
        ("NaN", np.full((4, 4), np.nan)),
        ("infinite", np.diag([1, np.inf, 1, 1])),
        ("zero spacing", np.diag([1.0, 0.0, 1.0, 1.0])),
        ("parallel axes", np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
        ("3x3", np.eye(3)),
    ],
)
def test_an_affine_that_spans_no_space_is_refused(name, affine):
    with pytest.raises(GeometryError, match=r"must"):
        Grid(SHAPE, affine)


@pytest.mark.parametrize("shape", [(0, 1, 1), (2, 2), (2, 2, 2, 2)])
def test_a_shape_that_is_not_three_filled_axes_is_refused(shape):
    with pytest.raises(GeometryError, match="three axes"):
        Grid(shape, np.eye(4))


def test_the_affine_cannot_be_changed_behind_the_grids_back():
    mine = np.eye(4)
    grid = Grid(SHAPE, mine)
    mine[0, 3] = 99
    assert grid.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 1


def test_a_volume_must_fit_its_grid():
    Volume(np.zeros((2, *SHAPE)), Grid(SHAPE, OBLIQUE))
    for wrong in ((2, 5, 4, 4), SHAPE):
        with pytest.raises(GeometryError, match="must be"):
            Volume(np.zeros(wrong), Grid(SHAPE, OBLIQUE))


def test_a_volume_of_arrays_alone_has_one_channel_or_those_that_come_first():
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    assert Volume.of(np.zeros((4, 5, 6)), affine).array.shape == (1, 4, 5, 6)
    several = Volume.of(np.zeros((2, 4, 5, 6)), affine.tolist())
    assert several.channels == 2 and several.grid.same_as(Grid((4, 5, 6), affine))
    with pytest.raises(GeometryError, match=r"array is \(4, 5\); must be \(I, J, K\), or"):
        Volume.of(np.zeros((4, 5)), affine)
