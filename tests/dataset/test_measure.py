"""What is measured equals what a plain calculation gives; a bad file stops nothing."""

import gzip
import json
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.dataset.case import Case, DataSet
from segpipe.dataset.measure import SAMPLE, measure, measure_case, sample_of
from segpipe.geometry.grid import Grid
from segpipe.geometry.orient import permute_flip, permuted_grid

Write = Callable[..., Path]
AFFINE = np.array([[0, 0, -3.0, 5], [-0.5, 0, 0, 7], [0, 2.0, 0, 9], [0, 0, 0, 1]])


def test_intensities_equal_numpy_over_scan_and_foreground(tmp_path: Path, write: Write) -> None:
    random = np.random.default_rng(1)
    image = random.normal(-50, 300, (7, 8, 9)).astype(np.float32)
    label = random.choice([0, 2, 255], (7, 8, 9)).astype(np.float32)
    facts = measure_case(Case("p", (write(tmp_path / "i.nii.gz", image),), write(tmp_path / "l.nii.gz", label)))
    for values, region in ((facts.images[0].whole[0], image.ravel()), (facts.images[0].foreground[0], image[label > 0])):
        assert values.count == region.size
        assert (values.minimum, values.maximum) == (region.min(), region.max())
        np.testing.assert_allclose((values.mean, values.std), (region.mean(dtype=np.float64), region.std(dtype=np.float64)), rtol=1e-9)
        assert len(values.sample) == SAMPLE
        np.testing.assert_allclose(np.median(values.sample), np.median(region), atol=2)
    assert facts.label is not None
    assert facts.label.voxels == {value: int((label == value).sum()) for value in (0, 2, 255)}
    assert facts.label.not_whole == 0


def test_values_that_are_not_finite_are_counted_and_left_out(tmp_path: Path, write: Write) -> None:
    image = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    image[0, 0, :2] = np.nan, np.inf
    label = np.ones((2, 3, 4), np.float32)
    label[0, 0, :4] = 0, 0.5, np.nan, -np.inf
    facts = measure_case(Case("p", (write(tmp_path / "i.nii", image),), write(tmp_path / "l.nii", label)))
    assert facts.images[0].nonfinite == 2
    assert facts.images[0].whole[0].count == 22
    assert facts.images[0].whole[0].mean == pytest.approx(image[np.isfinite(image)].mean())
    assert facts.label is not None
    assert (facts.label.voxels, facts.label.not_whole) == ({0: 1, 1: 20}, 3)


def test_shape_and_spacing_are_told_along_x_y_z(tmp_path: Path, write: Write) -> None:
    facts = measure_case(Case("p", (write(tmp_path / "i.nii.gz", np.ones((4, 5, 6), np.int16), AFFINE),), None))
    assert facts.ras_shape == (6, 4, 5)
    assert facts.ras_spacing_mm == (3.0, 0.5, 2.0)
    assert facts.orientation == "PSL"
    assert facts.images[0].shape == (4, 5, 6)


def test_labels_that_lie_elsewhere_are_measured_in_mm(tmp_path: Path, write: Write) -> None:
    image = write(tmp_path / "i.nii.gz", np.ones((4, 5, 6), np.int16), AFFINE)
    moved = AFFINE.copy()
    moved[2, 3] += 0.25
    facts = measure_case(Case("p", (image, write(tmp_path / "j.nii.gz", np.ones((4, 5, 6), np.int16), moved)), image))
    assert facts.images[1].distance_mm == pytest.approx(0.25)
    other = measure_case(Case("p", (image,), write(tmp_path / "l.nii.gz", np.ones((4, 5, 7), np.uint8), AFFINE)))
    assert other.label is not None
    assert other.label.distance_mm is None
    assert other.images[0].foreground == ()
    assert other.label.voxel_ml == pytest.approx(0.003)


def test_the_nonzero_box_covers_all_channels(tmp_path: Path, write: Write) -> None:
    first, second = np.zeros((10, 10, 10), np.uint8), np.zeros((10, 10, 10), np.uint8)
    first[2, 5, 5] = second[6, 5, 9] = 1
    facts = measure_case(Case("p", (write(tmp_path / "1.nii", first), write(tmp_path / "2.nii", second)), None))
    assert facts.nonzero_share == pytest.approx(5 * 1 * 5 / 1000)
    empty = measure_case(Case("p", (write(tmp_path / "0.nii", np.zeros((3, 3, 3), np.uint8)),), None))
    assert empty.nonzero_share == 1.0


def test_the_content_hash_sees_values_and_not_storage(tmp_path: Path, write: Write) -> None:
    array = np.random.default_rng(0).integers(0, 200, (5, 6, 7))
    files = [write(tmp_path / "a.nii.gz", array.astype(np.uint8)), write(tmp_path / "b.nii", array.astype(np.float32), 2 * np.eye(4))]
    changed = array.copy()
    changed[4, 5, 6] += 1
    files.append(write(tmp_path / "c.nii", changed.astype(np.uint8)))
    same, again, other = (measure_case(Case("p", (file,), None)).images[0].content for file in files)
    assert same == again != other


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
def test_the_content_hash_is_that_of_the_scan_in_any_stored_orientation(
    tmp_path: Path, write: Write, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    array = np.random.default_rng(0).integers(0, 200, (5, 6, 7)).astype(np.uint8)
    turned = permute_flip(array[None], order, flips)[0]
    files = [
        write(tmp_path / "a.nii", array, AFFINE),
        write(tmp_path / "b.nii", turned, permuted_grid(Grid((5, 6, 7), AFFINE), order, flips).affine),
    ]
    same, again = (measure_case(Case("p", (file,), file), ()) for file in files)
    assert same.images[0].content == again.images[0].content
    assert same.label is not None and again.label is not None
    assert same.label.content == again.label.content


def test_label_pictures_with_palettes_hold_their_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.eye(4, dtype=np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "p.png")
    facts = measure_case(Case("p", (tmp_path / "p.png",), tmp_path / "p.png"))
    assert facts.label is not None
    assert facts.label.voxels == {0: 12, 1: 4}
    assert facts.images[0].whole[0].maximum == 255


def test_rgb_pictures_have_three_channels(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "p.png")
    facts = measure_case(Case("p", (tmp_path / "p.png",), None))
    assert facts.images[0].picture
    assert [values.mean for values in facts.images[0].whole] == pytest.approx(array.mean(axis=(0, 1)).tolist())
    assert facts.ras_shape == (6, 5, 1)


def test_unreadable_files_are_noted_and_the_others_measured(tmp_path: Path, write: Write) -> None:
    good = write(tmp_path / "good.nii.gz", np.ones((3, 3, 3), np.uint8))
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(good.read_bytes()[:40])
    lies = tmp_path / "lies.nii.gz"
    lies.write_bytes(gzip.compress(b"no header" * 100))
    empty = tmp_path / "empty.nii"
    empty.touch()
    cases = [Case(file.name, (file,), good) for file in (cut, good, lies, empty)] + [Case("label", (good,), cut)]
    facts = measure(DataSet(tmp_path, "folders", tuple(cases), ("image",)), workers=2)
    assert [case.case for case in facts] == [case.name for case in cases]
    assert [case.readable for case in facts] == [False, True, False, False, False]
    assert all(str(case.images[0].file) in case.images[0].error for case in facts if case.images[0].error)
    json.dumps([case.to_dict() for case in facts], allow_nan=False)


@pytest.mark.parametrize("shape", [(101, 640, 625), (625, 101, 640), (63, 700, 900)])
def test_a_sample_is_taken_from_all_planes(shape: tuple[int, int, int]) -> None:
    array = np.full(shape, 100, dtype=np.int16)
    array[0] = -1000
    for held in (array, np.asfortranarray(array)):
        sample = np.array(sample_of(held))
        assert (sample == -1000).mean() == pytest.approx(1 / shape[0], abs=0.005)
