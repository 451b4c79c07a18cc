"""Training looks at the data before it starts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.errors import ConfigError, DataError
from segpipe.settings import DatasetSettings, Settings
from segpipe.training.survey import survey


def pictures(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            values = random.integers(0, 255, (9, 8), dtype=np.uint8) if kind == "images" else (random.random((9, 8)) > 0.5) * np.uint8(255)
            Image.fromarray(values).save(folder / kind / f"{number}.png")


def test_the_fingerprint_and_the_cases_come_back(tmp_path: Path) -> None:
    pictures(tmp_path, 3)
    cases, fingerprint = survey(Settings(dataset=DatasetSettings(root=str(tmp_path))))
    assert len(cases) == fingerprint.cases == 3
    assert fingerprint.label_values == (0, 255)


def test_copies_of_one_scan_stay_together(tmp_path: Path) -> None:
    pictures(tmp_path, 3)
    for kind in ("images", "labels"):
        (tmp_path / kind / "copy.png").write_bytes((tmp_path / kind / "0.png").read_bytes())
    cases, _ = survey(Settings(dataset=DatasetSettings(root=str(tmp_path))))
    groups = {case.name: case.group for case in cases}
    assert groups["0"] == groups["copy"] != ""


def test_a_fault_stops_training_with_its_file_and_cure(tmp_path: Path) -> None:
    pictures(tmp_path, 3)
    (tmp_path / "labels" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png"):
        survey(Settings(dataset=DatasetSettings(root=str(tmp_path))))


def test_a_data_set_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.root"):
        survey(Settings())
