import math

import numpy as np
import pytest

from segpipe.errors import DataError, GeometryError
from segpipe.evaluation.metric import EMPTY_BOTH, EMPTY_PREDICTION, EMPTY_TRUTH, METRICS
from segpipe.evaluation.scores import LabelScore, score_case
from segpipe.evaluation.surface import surface_distances
from segpipe.geometry.grid import Grid, Volume

AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])


def volume(array, affine=AFFINE):
    array = np.asarray(array)
    return Volume(array[None], Grid(array.shape, affine))


def blocks(*parts, shape=(16, 14, 8)):
    """Label map with boxes: (value, start, stop) along all axes."""
    array = np.zeros(shape, np.int16)
    for value, start, stop in parts:
        array[start:stop, start:stop, start // 2 : stop // 2] = value
    return array


def test_values_with_gaps_are_scored_under_their_own_number():
    result = score_case("a", volume(blocks((7, 2, 8), (255, 10, 14))), volume(blocks((7, 2, 8), (255, 10, 12))))
    assert sorted(result.scores) == [7, 255]
    assert result.scores[7].dice == 1.0
    assert result.scores[255].dice == pytest.approx(2 * 4 / (4 + 32))
    assert result.truth_values == result.prediction_values == (7, 255)


def test_each_label_is_measured_as_on_the_whole_volume():
    rng = np.random.default_rng(0)
    prediction, truth = (rng.integers(0, 4, (9, 8, 7)) * 10 for _ in range(2))
    prediction[:3], truth[6:] = 0, 0
    result = score_case("a", volume(prediction), volume(truth), tolerance_mm=0.6)
    for value in (10, 20, 30):
        expected = surface_distances(prediction == value, truth == value, AFFINE[:3, :3])
        score = result.scores[value]
        assert score.hd95_mm == pytest.approx(expected.hausdorff_mm(), abs=1e-12)
        assert score.assd_mm == pytest.approx(expected.average_mm(), abs=1e-12)
        assert score.surface_dice == pytest.approx(expected.dice(0.6), abs=1e-12)
        first, second = prediction == value, truth == value
        assert score.dice == pytest.approx(2 * (first & second).sum() / (first.sum() + second.sum()), abs=1e-12)
        assert score.iou == pytest.approx((first & second).sum() / (first | second).sum(), abs=1e-12)
    assert result.pixel_error == pytest.approx((prediction != truth).mean(), abs=1e-12)


def test_volumes_are_in_millilitres_and_the_difference_is_signed():
    score = score_case("a", volume(blocks((1, 2, 6))), volume(blocks((1, 2, 8)))).scores[1]
    voxel_ml = 0.5 * 0.5 * 3.0 / 1000
    assert score.truth_ml == pytest.approx(6 * 6 * 3 * voxel_ml)
    assert score.prediction_ml == pytest.approx(4 * 4 * 2 * voxel_ml)
    assert score.volume_difference_ml == pytest.approx((32 - 108) * voxel_ml)
    assert score.volume_difference_relative == pytest.approx(32 / 108 - 1)


def test_rotating_the_grid_changes_no_figure():
    angle = 0.4
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    prediction, truth = blocks((1, 2, 6)), blocks((1, 2, 8))
    straight = score_case("a", volume(prediction), volume(truth)).scores[1]
    oblique = score_case("a", volume(prediction, turn @ AFFINE), volume(truth, turn @ AFFINE)).scores[1]
    for metric in METRICS:
        assert getattr(oblique, metric.name) == pytest.approx(getattr(straight, metric.name), abs=1e-9), metric.name


def test_only_the_prediction_empty_scores_zero_without_distance():
    score = score_case("a", volume(blocks()), volume(blocks((1, 2, 8)))).scores[1]
    assert (score.dice, score.iou, score.surface_dice, score.volume_difference_relative) == (0.0, 0.0, 0.0, -1.0)
    assert math.isnan(score.hd95_mm)
    assert math.isnan(score.assd_mm)
    assert score.note == EMPTY_PREDICTION


def test_only_the_truth_empty_scores_zero_without_distance_or_relative_volume():
    score = score_case("a", volume(blocks((1, 2, 8))), volume(blocks())).scores[1]
    assert (score.dice, score.iou, score.surface_dice) == (0.0, 0.0, 0.0)
    assert all(math.isnan(x) for x in (score.hd95_mm, score.assd_mm, score.volume_difference_relative))
    assert score.volume_difference_ml > 0
    assert score.note == EMPTY_TRUTH


def test_a_label_on_neither_side_is_undefined():
    result = score_case("a", volume(blocks()), volume(blocks()))
    assert result.scores == {}
    assert result.score(3).note == EMPTY_BOTH
    assert math.isnan(result.score(3).dice)
    assert result.score(3).volume_difference_ml == 0.0
    assert result.pixel_error == 0.0


def test_another_background_is_no_label():
    picture = np.full((6, 6, 1), 255)
    picture[2:4, 2:4] = 0
    result = score_case("a", volume(picture), volume(picture), background=255)
    assert sorted(result.scores) == [0]


def test_a_picture_is_measured_in_the_plane():
    prediction, truth = np.zeros((2, 12, 12, 1), np.uint8)
    truth[2:9, 2:9], prediction[2:9, 2:10] = 255, 255
    score = score_case("a", volume(prediction, np.eye(4)), volume(truth, np.eye(4))).scores[255]
    outline = surface_distances(prediction > 0, truth > 0, np.eye(3), (0, 1))
    assert outline.to_truth.size == 26
    assert score.assd_mm == pytest.approx(outline.average_mm())


def test_grids_apart_are_refused_with_the_distance_and_header_noise_passes():
    label, moved = blocks((1, 2, 8)), AFFINE.copy()
    moved[0, 3] = 1e-4
    assert score_case("a", volume(label, moved), volume(label)).scores[1].dice == 1.0
    moved[0, 3] = 2.0
    with pytest.raises(GeometryError, match="2 mm from the truth"):
        score_case("a", volume(label, moved), volume(label))


def test_other_shapes_are_refused():
    with pytest.raises(GeometryError, match=r"\(16, 14, 8\).*\(16, 14, 9\)"):
        score_case("a", volume(blocks()), volume(blocks(shape=(16, 14, 9))))


def test_a_scan_given_as_label_map_is_refused_by_its_side():
    scan = np.random.default_rng(0).normal(size=(16, 14, 8))
    with pytest.raises(DataError, match="prediction holds fractions"):
        score_case("a", volume(scan), volume(blocks()))


def test_the_fields_of_a_score_are_the_metrics_in_order():
    assert [*LabelScore.__dataclass_fields__] == [*(metric.name for metric in METRICS), "note"]


def test_voxels_that_nobody_has_judged_are_left_out():
    rng = np.random.default_rng(0)
    prediction, truth = (rng.integers(0, 3, (9, 8, 7)) for _ in range(2))
    judged = truth.copy()
    judged[:4] = 99
    result = score_case("a", volume(prediction), volume(judged), ignore=(99, 98))
    expected = score_case("a", volume(np.where(judged == 99, 0, prediction)), volume(np.where(judged == 99, 0, truth)))
    assert result.scores == expected.scores and result.truth_values == (1, 2)
    assert result.pixel_error == pytest.approx((prediction != truth)[4:].mean(), abs=1e-12)
    nothing = score_case("a", volume(prediction), volume(np.full((9, 8, 7), 99)), ignore=(99,))
    assert nothing.scores == {} and nothing.prediction_values == ()
