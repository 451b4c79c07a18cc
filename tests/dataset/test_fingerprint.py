"""The fingerprint sums up the cases that can be used, each with the same weight."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.dataset.fingerprint import Fingerprint, channel_names, fingerprint
from segpipe.dataset.load import load_dataset
from segpipe.dataset.measure import measure
from segpipe.errors import DataError
from segpipe.settings import DatasetSettings


def fingerprint_of(root: Path, **values: object) -> Fingerprint:
    data = load_dataset(replace(DatasetSettings(root=str(root)), **values))
    return fingerprint(data, measure(data, workers=1))


def test_intensities_are_those_of_the_labelled_voxels_of_all_cases(tmp_path: Path, write: Callable[..., Path]) -> None:
    random = np.random.default_rng(3)
    inside = []
    for name in "abc":
        image = random.normal(40, 15, (20, 20, 20)).astype(np.float32)
        label = np.zeros(image.shape, np.uint8)
        label[4:16, 4:16, 4:16] = 255
        image[label == 0] -= 1000
        inside.append(image[label > 0])
        write(tmp_path / "images" / f"{name}.nii.gz", image)
        write(tmp_path / "labels" / f"{name}.nii.gz", label)
    (tmp_path / "images" / "a_damaged_one.nii.gz").write_bytes(b"x")
    (tmp_path / "labels" / "a_damaged_one.nii.gz").write_bytes(b"x")
    print_ = fingerprint_of(tmp_path, channels=["CT"])
    values = np.concatenate(inside)
    (stats,) = print_.channels
    assert (stats.name, stats.minimum, stats.maximum) == ("CT", values.min(), values.max())
    np.testing.assert_allclose((stats.mean, stats.std), (values.mean(dtype=np.float64), values.std(dtype=np.float64)), rtol=1e-6)
    np.testing.assert_allclose((stats.p005, stats.p50, stats.p995), np.percentile(values, [0.5, 50, 99.5]), atol=1.0)
    assert (print_.cases, print_.picture, print_.shapes[0], print_.spacings_mm[0]) == (3, False, (20, 20, 20), (1.0, 1.0, 1.0))
    assert print_.label_values == (0, 255)
    assert print_.label_voxels == {0: 3 * (8000 - 1728), 255: 3 * 1728}
    assert print_.label_cases == {0: 3, 255: 3}
    assert print_.label_names == {0: "background", 255: "label 255"}
    assert print_.nonzero_share == 1.0


def test_label_names_that_are_given_win_and_json_can_hold_them(pairs: Callable[..., Path]) -> None:
    print_ = fingerprint_of(pairs(2), label_names={"1": "PZ"})
    assert print_.label_names == {0: "background", 1: "PZ", 2: "label 2"}
    assert json.loads(json.dumps(print_.to_dict()))["label_names"] == {"0": "background", "1": "PZ", "2": "label 2"}


def test_colour_pictures_have_the_channels_red_green_blue(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 8, 3), dtype=np.uint8)).save(tmp_path / "images" / "p.tif")
    Image.fromarray(np.eye(9, 8, dtype=np.uint8) * 255).save(tmp_path / "labels" / "p.png")
    print_ = fingerprint_of(tmp_path)
    assert [channel.name for channel in print_.channels] == ["red", "green", "blue"]
    assert (print_.picture, print_.shapes) == (True, ((9, 8, 1),))


def test_one_declared_name_stands_for_all_channels_of_a_file() -> None:
    assert channel_names(("T2", "ADC"), 2, False) == ("T2", "ADC")
    assert channel_names(("MR",), 2, False) == ("MR 0", "MR 1")
    assert channel_names(("rgb",), 3, False) == channel_names(("image",), 3, True) == ("red", "green", "blue")
    with pytest.raises(DataError, match="each case has 3"):
        channel_names(("T2", "ADC"), 3, False)


def test_without_a_usable_case_there_is_no_fingerprint(pairs: Callable[..., Path]) -> None:
    root = pairs(1)
    (root / "images" / "a.nii.gz").write_bytes(b"x")
    with pytest.raises(DataError, match="no case has an image and a label map"):
        fingerprint_of(root)
