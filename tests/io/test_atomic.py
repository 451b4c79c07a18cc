"""Files are whole or absent, whatever happens while they are written."""

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segpipe.errors import ConfigError, DataError
from segpipe.io.alive import acting_as, new_token
from segpipe.io.atomic import check_file, check_folder, replacing, replacing_all, sweep, write_bytes, write_text


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_temporary_file_lies_hidden_in_the_same_folder_with_the_same_ending(tmp_path):
    with replacing(tmp_path / "new" / "case.nii.gz") as temporary:
        assert temporary.parent == tmp_path / "new"
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"whole")
        assert not (tmp_path / "new" / "case.nii.gz").exists()
    assert names(tmp_path / "new") == ["case.nii.gz"]
    assert (tmp_path / "new" / "case.nii.gz").read_bytes() == b"whole"


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError, ValueError])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(error), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_text_is_utf8_and_bytes_are_bytes(tmp_path):
    write_text(tmp_path / "t", "Größe")
    assert (tmp_path / "t").read_bytes() == "Größe".encode()
    write_bytes(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"


def test_the_file_gets_the_users_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_header_and_its_data_get_their_final_names_and_the_header_comes_last(tmp_path, monkeypatch):
    order = []
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append(target.name), real(self, target))[1])
    for content in ("1", "2"):
        with replacing_all(tmp_path / "x.raw", tmp_path / "x.mhd") as folder:
            (folder / "x.mhd").write_text(content)
            (folder / "x.raw").write_text(content)
    assert order == ["x.raw", "x.mhd"] * 2
    assert names(tmp_path) == ["x.mhd", "x.raw"]


def test_a_cut_between_data_and_header_leaves_no_header(tmp_path, monkeypatch):
    for name in ("x.raw", "x.mhd"):
        (tmp_path / name).write_text("old")
    real = Path.replace

    def cut(self, target):
        if target.name == "x.mhd":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt), replacing_all(tmp_path / "x.raw", tmp_path / "x.mhd") as folder:
        for name in ("x.raw", "x.mhd"):
            (folder / name).write_text("new")
    assert names(tmp_path) == ["x.raw"]


@pytest.mark.parametrize(("code", "cure"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota")])
def test_a_disk_that_refuses_is_named_with_a_cure(tmp_path, code, cure):
    with pytest.raises(ConfigError, match=cure) as caught, replacing(tmp_path / "a.bin"):
        raise OSError(code, os.strerror(code))
    assert str(tmp_path / "a.bin") in str(caught.value)
    assert names(tmp_path) == []


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="part of the path is a file"):
        write_text(tmp_path / "file" / "a.txt", "")


def test_a_folder_where_the_file_should_be_is_named(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(ConfigError, match="a folder has that name"):
        write_text(tmp_path / "a.txt", "")
    assert names(tmp_path) == ["a.txt"]


def test_a_name_that_is_too_long_is_named(tmp_path):
    with pytest.raises(ConfigError, match="shorter name"):
        write_text(tmp_path / ("a" * 300), "")


def test_a_folder_without_permission_is_named(tmp_path):
    if not hasattr(os, "geteuid"):
        pytest.skip("needs POSIX permissions")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(ConfigError, match="that you may write to"):
            write_text(locked / "a.txt", "")
    finally:
        if root:
            os.seteuid(0)


def test_an_error_about_another_file_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "out" / "a.txt"):
        (tmp_path / "elsewhere" / "input.txt").read_text()


@contextlib.contextmanager
def small_disk():
    """Files may not grow beyond 5000 bytes, as on a disk that runs full. Not a fixture: pytest's own output may be such a file."""
    old_signal = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old_signal)


def test_bytes_that_do_not_fit_leave_nothing(tmp_path):
    with small_disk(), pytest.raises(ConfigError, match="cannot be written"):
        write_bytes(tmp_path / "big", bytes(20_000))
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".tif"])
def test_a_scan_that_does_not_fit_leaves_nothing(tmp_path, capfd, suffix):
    import numpy as np

    from segpipe.geometry.grid import Grid, Volume
    from segpipe.io.write import write_volume

    noise = np.random.default_rng(0).integers(0, 255, (1, 200, 100, 1), dtype=np.uint8)
    with small_disk(), pytest.raises(ConfigError, match="cannot be written") as caught:
        write_volume(tmp_path / f"big{suffix}", Volume(noise, Grid(noise.shape[1:], np.eye(4))))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["new/deep/a.json", "a.json"])
def test_a_place_that_can_be_written_passes_and_nothing_is_left(tmp_path, name):
    check_file(tmp_path / name)
    check_folder(tmp_path / name)
    assert names(tmp_path) == []


def test_places_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("kept")
    for place, reason in (("file/a.json", "Not a directory"), ("", "a folder has that name")):
        with pytest.raises(ConfigError, match=reason):
            check_file(tmp_path / place)
    for place in ("file", "file/deep"):
        with pytest.raises(ConfigError, match=f"{tmp_path / place}: cannot be written"):
            check_folder(tmp_path / place)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_device_is_never_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for write in (check_file, lambda path: write_text(path, "x")):
        with pytest.raises(ConfigError, match="no ordinary file"):
            write(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_full_disk_is_noticed_before_any_work(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError, match="No space left"):
        check_folder(tmp_path / "out")


def test_temporary_files_of_killed_processes_are_swept_and_those_of_living_ones_stay(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from segpipe.io.atomic import replacing, replacing_all
folder = Path({str(tmp_path)!r})
with replacing(folder / "a.nii.gz") as temporary, replacing_all(folder / "b.raw", folder / "b.mhd") as other:
    temporary.write_bytes(b"half")
    (other / "b.raw").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    (tmp_path / ".hidden.nii.gz").write_bytes(b"mine")
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 3
    with replacing(tmp_path / "c.nii.gz") as alive:
        removed = sweep([tmp_path, tmp_path / "not there"])
        assert {path.name for path in removed} == left - {".hidden.nii.gz"}
        assert alive.exists()
        alive.write_bytes(b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {".hidden.nii.gz", "c.nii.gz"}


def test_what_another_machine_left_is_swept_after_a_day(tmp_path):
    old, new = (tmp_path / f".a.00000000-1-0000000{number}.nii.gz" for number in (0, 1))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    assert sweep([tmp_path]) == [old]
    assert new.exists()


def test_what_was_written_under_a_name_that_is_over_is_swept_though_its_process_lives(tmp_path):
    over, other = new_token(), new_token()
    with acting_as(over), replacing(tmp_path / "a.nii.gz") as file, replacing_all(tmp_path / "b.raw", tmp_path / "b.mhd") as folder:
        assert {file.name, folder.name} == {f".a.{over}.nii.gz", f".{over}"}
        file.write_bytes(b"half")
        for name in ("b.raw", "b.mhd"):
            (folder / name).touch()
    for token in (over, other):  # as a process leaves them that is killed on another machine
        (tmp_path / f".a.{token}.nii.gz").touch()
        (tmp_path / f".{token}").mkdir()
    assert {path.name for path in sweep([tmp_path], over={over})} == {f".a.{over}.nii.gz", f".{over}"}
    assert (tmp_path / f".a.{other}.nii.gz").exists() and (tmp_path / f".{other}").exists()
