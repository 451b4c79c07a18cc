"""Finding scans: names, folders, links, and what is said when there is nothing."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import DataError
from segpipe.io.find import SUFFIXES, find_scans, is_picture, split_name

stems = st.text(alphabet="abz019._- ", min_size=1, max_size=12).filter(lambda s: s.strip(". ") != "")


@given(stem=stems, suffix=st.sampled_from(SUFFIXES), upper=st.booleans())
def test_stem_and_ending_make_the_name_again(stem, suffix, upper):
    name = stem + (suffix.upper() if upper else suffix)
    assert split_name(Path("folder") / name) == (stem, suffix)


def test_an_unknown_ending_is_pathlibs():
    assert split_name(Path("a/case.1.TXT")) == ("case.1", ".txt")


def test_pictures_are_told_from_volumes():
    assert is_picture(Path("a.PNG"))
    assert is_picture(Path("a.tif"))
    assert not is_picture(Path("a.nii.gz"))


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_a_folder_is_searched_recursively_and_sorted_without_hidden_and_foreign_files(tmp_path):
    make(tmp_path, "b/2.nii.gz", "b/1.MHA", "a.png", ".hidden/x.nii", "._a.nii.gz", "notes.txt", "b/1.raw", "c/d/e.nrrd")
    assert [p.relative_to(tmp_path).as_posix() for p in find_scans(tmp_path)] == ["a.png", "b/1.MHA", "b/2.nii.gz", "c/d/e.nrrd"]


def test_a_file_is_itself(tmp_path):
    make(tmp_path, "x.nii")
    assert find_scans(tmp_path / "x.nii") == [tmp_path / "x.nii"]


def test_linked_folders_are_followed_once_and_a_loop_ends(tmp_path):
    make(tmp_path, "store/x.nii", "data/y.nii")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "store")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert [p.name for p in find_scans(tmp_path / "data")] == ["x.nii", "y.nii"]


@pytest.mark.parametrize(
    ("names", "given_path", "says"),
    [
        ([], "nowhere", "does not exist"),
        ([], ".", "holds no file"),
        (["1.dcm", "2.dcm", "a.txt"], ".", r"3 files \(2 .dcm, 1 .txt\) but no scan"),
        (["x.dcm"], "x.dcm", "must end in .nii.gz"),
    ],
)
def test_nothing_to_read_is_said_in_one_line_with_the_path(tmp_path, names, given_path, says):
    make(tmp_path, *names)
    with pytest.raises(DataError, match=says) as caught:
        find_scans(tmp_path / given_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_listed_is_refused_as_root_and_passed_over_below(tmp_path, monkeypatch, caplog):
    make(tmp_path, "a/x.nii", "b/y.nii")
    import os

    real = os.scandir

    def scandir(path):
        if Path(path) in locked:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    locked = [tmp_path / "a"]
    assert [p.name for p in find_scans(tmp_path)] == ["y.nii"]
    assert "a: passed over" in caplog.text
    locked = [tmp_path]
    with pytest.raises(DataError, match="cannot be listed"):
        find_scans(tmp_path)
