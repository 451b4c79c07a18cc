"""The cache: what lies in it is used without being asked for again, so nobody else may have put it there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import segpipe
from segpipe.bundle.layout import MODEL
from segpipe.bundle.load import find_model
from segpipe.bundle.open import open_package
from segpipe.bundle.unpack import folder_of, model_in
from segpipe.errors import ConfigError, ModelError
from segpipe.io.read import read_volume
from tests.bundle.conftest import change_document


@pytest.fixture
def other(folder: Path) -> Path:
    """Another package, whole in itself: it tells other things."""
    change_document(folder, lambda document: document["card"].update(summary="Another model."))
    return folder


def test_another_package_in_the_place_of_one_is_not_used(archive: Path, other: Path, cache: Path) -> None:
    """Whoever writes a valid package of his own where another one is unpacked to would have it used in its place."""
    place = cache / "packages" / open_package(archive).sha256
    shutil.copytree(other, place)
    found = folder_of(open_package(archive))
    assert found == place
    assert open_package(found).sha256 == open_package(archive).sha256


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners of files")
def test_a_cache_of_another_user_is_refused(archive: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "packages").mkdir(parents=True)
    own = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: own + 1)
    with pytest.raises(ConfigError, match="belongs to another user.*SEGPIPE_CACHE"):
        model_in(archive)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs permissions")
def test_a_cache_that_others_may_write_is_closed_to_them(archive: Path, cache: Path) -> None:
    (cache / "packages").mkdir(parents=True)
    (cache / "packages").chmod(0o777)
    model_in(archive)
    assert (cache / "packages").stat().st_mode & 0o022 == 0


def test_a_cache_that_is_a_link_is_refused(archive: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    cache.mkdir()
    (cache / "packages").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="no link"):
        model_in(archive)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_bad_package_that_cannot_be_removed_is_not_used(archive: Path, other: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = cache / "packages" / open_package(archive).sha256
    shutil.copytree(other, place)

    def refuses(path: Path, ignore_errors: bool = False) -> None:
        if path == place and not ignore_errors:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("segpipe.bundle.unpack.shutil.rmtree", refuses)
    with pytest.raises(ConfigError, match="cannot be written"):
        model_in(archive)


def test_an_archive_that_changes_after_the_check_is_not_unpacked(archive: Path, other: Path, cache: Path) -> None:
    package = open_package(archive)
    from segpipe.bundle.pack import write_archive

    write_archive(other, archive)
    with pytest.raises(ModelError, match="cannot be read|has changed|not as long"):
        folder_of(package)
    assert [path for path in (cache / "packages").rglob("*") if path.is_file()] == []


def test_the_file_that_was_checked_is_the_file_that_is_loaded(folder: Path) -> None:
    """Between the check and the worker's reading there is time to exchange a model for another good one."""
    found = find_model(folder)
    data = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(data.replace(b"segpipe-model", b"segpipe-model", 1) + b"")
    from segpipe.inference.api import load_model

    load_model(found.path, "cpu", sha256=[found.sha256])
    (folder / MODEL).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError, match="is not the file that was checked"):
        load_model(found.path, "cpu", sha256=[found.sha256])


@pytest.mark.parametrize("form", ["folder", "package.zip", "model.ts"])
def test_python_loads_packages_as_the_command_does(form: str, made: Path) -> None:
    model = segpipe.load_model(made / form, "cpu")
    labels = segpipe.predict_volume(model, read_volume(made / "scans" / "mueller_hans_1950.nii.gz")).labels
    assert (labels == read_volume(made / "folder/samples/labels/sample-01.nii.gz").array[0]).all()


def test_python_refuses_a_hostile_package(folder: Path) -> None:
    (folder / "install.sh").write_text("x")
    with pytest.raises(ModelError, match="no part of a package"):
        segpipe.load_model(folder, "cpu")


def test_what_a_killed_process_left_in_the_cache_is_removed(archive: Path, cache: Path) -> None:
    from segpipe.io.alive import new_token

    left = cache / "packages" / f".{new_token().replace(str(os.getpid()), '999999999')}"
    left.mkdir(parents=True)
    model_in(archive)
    assert not left.exists()
