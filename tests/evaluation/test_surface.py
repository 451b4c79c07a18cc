import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.distance import cdist

from segpipe.evaluation.surface import surface, surface_distances

SPACINGS = [(1.0, 1.0, 1.0), (0.5, 0.5, 3.0), (0.7, 1.3, 2.1)]


def ellipsoid(shape, centre, radii):
    grid = np.indices(shape)
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)) <= 1.0


def phantoms():
    shape = (24, 20, 14)
    large, small = ellipsoid(shape, (11, 9, 6), (8, 7, 5)), ellipsoid(shape, (13, 10, 7), (6, 7, 4))
    spotted = small.copy()
    spotted[0, 0, 0] = spotted[23, 19, 13] = True
    noise = np.random.default_rng(0).random(shape) < 0.3
    at_border = ellipsoid(shape, (0, 0, 0), (9, 9, 9))
    return {"shifted": (small, large), "outliers": (spotted, large), "noise": (noise, large), "border": (at_border, large)}


PHANTOMS = phantoms()


def brute_force(prediction, truth, matrix):
    """Outlines by SciPy's erosion, then all distances between all pairs."""
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) @ matrix.T for mask in (prediction, truth)]
    table = cdist(*points)
    return table.min(axis=1), table.min(axis=0)


def one_hot(mask):
    return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))


def monai(metric, prediction, truth):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(metric(one_hot(prediction), one_hot(truth)))


@pytest.mark.parametrize("name", PHANTOMS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_distances_equal_brute_force(name, spacing):
    prediction, truth = PHANTOMS[name]
    found = surface_distances(prediction, truth, np.diag(spacing))
    to_truth, to_prediction = brute_force(prediction, truth, np.diag(spacing))
    np.testing.assert_allclose(np.sort(found.to_truth), np.sort(to_truth), atol=1e-12)
    np.testing.assert_allclose(np.sort(found.to_prediction), np.sort(to_prediction), atol=1e-12)


def test_distances_on_an_oblique_and_sheared_grid_equal_brute_force():
    matrix = np.array([[0.6, -0.4, 0.3], [0.4, 0.7, 0.2], [0.1, -0.1, 2.5]])
    prediction, truth = PHANTOMS["shifted"]
    found = surface_distances(prediction, truth, matrix)
    to_truth, to_prediction = brute_force(prediction, truth, matrix)
    assert found.hausdorff_mm() == pytest.approx(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)), abs=1e-12)
    assert found.average_mm() == pytest.approx(np.concatenate([to_truth, to_prediction]).mean(), abs=1e-12)


@pytest.mark.parametrize("name", PHANTOMS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_figures_equal_monai(name, spacing):
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    prediction, truth = PHANTOMS[name]
    found = surface_distances(prediction, truth, np.diag(spacing))
    assert found.hausdorff_mm() == pytest.approx(
        monai(lambda p, t: compute_hausdorff_distance(p, t, percentile=95, spacing=spacing), prediction, truth), abs=1e-4
    )
    assert found.hausdorff_mm(100) == pytest.approx(
        monai(lambda p, t: compute_hausdorff_distance(p, t, spacing=spacing), prediction, truth), abs=1e-4
    )
    assert found.average_mm() == pytest.approx(
        monai(lambda p, t: compute_average_surface_distance(p, t, symmetric=True, spacing=spacing), prediction, truth), abs=1e-4
    )
    for tolerance in (0.31, 1.05, 2.55):
        assert found.dice(tolerance) == pytest.approx(
            monai(lambda p, t, mm=tolerance: compute_surface_dice(p, t, [mm], spacing=spacing), prediction, truth), abs=1e-6
        )


def test_surface_equals_what_erosion_takes_away():
    for prediction, _ in PHANTOMS.values():
        np.testing.assert_array_equal(surface(prediction), prediction & ~ndimage.binary_erosion(prediction))


def test_a_picture_has_an_outline_as_in_two_dimensions():
    picture = ellipsoid((20, 16), (9, 8), (7, 5))
    np.testing.assert_array_equal(surface(picture[..., None], (0, 1))[..., 0], picture & ~ndimage.binary_erosion(picture))


def test_a_distance_equal_to_the_tolerance_is_within_it_even_with_float32_spacing():
    first, second = np.zeros((4, 1, 1), bool), np.zeros((4, 1, 1), bool)
    first[0], second[3] = True, True
    spacing = float(np.float32(0.3))  # 0.300000012
    assert surface_distances(first, second, np.eye(3) * spacing).dice(0.9) == 1.0
    assert surface_distances(first, second, np.eye(3) * spacing).dice(0.89) == 0.0


def test_equal_masks_have_no_distance():
    mask = PHANTOMS["noise"][0]
    found = surface_distances(mask, mask, np.eye(3))
    assert (found.hausdorff_mm(), found.average_mm(), found.dice(0.0)) == (0.0, 0.0, 1.0)


def test_two_points_are_as_far_apart_as_the_spacing_says():
    first, second = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    first[0, 0, 0], second[3, 4, 0] = True, True
    found = surface_distances(first, second, np.diag([1.0, 1.0, 9.0]))
    assert (found.hausdorff_mm(), found.average_mm()) == (5.0, 5.0)
