"""What cannot be written is refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.errors import ConfigError, DataError
from segpipe.inference.request import check_format, check_request, format_suffix


@pytest.mark.parametrize(("name", "suffix"), [("", ""), ("nii.gz", ".nii.gz"), (".NRRD", ".nrrd"), ("png", ".png")])
def test_a_format_may_be_written_with_a_dot_and_in_capitals(name: str, suffix: str) -> None:
    assert format_suffix(name) == suffix


def test_label_maps_of_volumes_do_not_go_into_pictures_and_those_of_pictures_go_anywhere() -> None:
    for suffix in ("", ".nii.gz", ".nrrd", ".mha", ".png", ".tif"):
        check_format(suffix, pictures=True)
    for suffix in ("", ".nii.gz", ".nrrd", ".mha"):
        check_format(suffix, pictures=False)
    for suffix in (".png", ".tif", ".bmp"):
        with pytest.raises(
            ConfigError, match=rf"--format is {suffix[1:]}, a picture; .*: give nii\.gz, nrrd or mha, or leave --format out"
        ):
            check_format(suffix, pictures=False)


def test_places_and_formats_are_refused_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for source, out, name, error in (
        ("none", "out", "", DataError),
        ("in", "in", "", ConfigError),
        ("in", "x.nii.gz", "", ConfigError),
        ("in", "out", "docx", ConfigError),
    ):
        with pytest.raises(error):
            check_request(tmp_path / source, tmp_path / out, name)
    check_request(tmp_path / "in", tmp_path / "out", "nrrd")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
