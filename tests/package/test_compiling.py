"""Where compiled code is kept, and how a failure is told."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch

from segpipe.package import compiling
from segpipe.package.compiling import _safely, compiled, plain, reason_of

pytestmark = pytest.mark.usefixtures("uncompiled_backend")
VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch would keep its code."""
    folder = tmp_path / "torchinductor_somebody"
    monkeypatch.setattr("torch._inductor.runtime.cache_dir_utils.default_cache_dir", lambda: str(folder))
    monkeypatch.setenv(VARIABLE, str(folder))  # as torch does when it is loaded
    monkeypatch.setattr(compiling, "OPTIONS", {"fallback_random": True})
    return folder


def test_torchs_own_folder_is_taken_where_the_user_alone_may_write_into_it(default: Path) -> None:
    assert _safely(compiling.OPTIONS) == compiling.OPTIONS
    assert os.environ[VARIABLE] == str(default)
    assert stat.S_IMODE(default.stat().st_mode) == 0o700  # nobody can come first any more


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the permissions of POSIX")
@pytest.mark.parametrize("kind", ["writable", "link", "file", "foreign"])
def test_a_folder_that_others_may_have_filled_is_not_used(
    default: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "writable":
        default.mkdir()
        default.chmod(0o777)
    elif kind == "link":
        (tmp_path / "else").mkdir()
        default.symlink_to(tmp_path / "else")
    elif kind == "file":
        default.touch()
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    found = _safely(compiling.OPTIONS)
    assert found == {"fallback_random": True, "cpp_cache_precompile_headers": False}
    folder = Path(os.environ[VARIABLE])
    assert folder != default and stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.rmdir()


def test_a_folder_that_the_user_has_chosen_stays(default: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default.touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    _safely(compiling.OPTIONS)
    assert os.environ[VARIABLE] == str(tmp_path / "mine")


def test_one_layout_is_compiled_once_however_the_numbers_lie_in_memory() -> None:
    x = torch.randn(2, 1, 4, 5, 6)
    others = [x, x.squeeze(1).contiguous().unsqueeze(-1).movedim(-1, 1), torch.randn(2, 1, 8, 5, 6)[:, :, ::2]]
    assert len({other.stride() for other in others}) == 3
    assert {plain(other).stride() for other in others} == {(120, 120, 30, 6, 1)}
    assert torch.equal(plain(others[2]), others[2])


class WrappedError(Exception):
    def __init__(self, inner: Exception) -> None:
        super().__init__("the backend raised:")
        self.inner_exception = inner


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (WrappedError(WrappedError(OSError("\n no compiler \nsecond line"))), "OSError: no compiler"),
        (ValueError(), "ValueError"),
        (RuntimeError("x" * 1000), "RuntimeError: " + "x" * 186),
    ],
)
def test_a_failure_is_told_in_one_line_by_what_was_behind_it(error: Exception, line: str) -> None:
    assert reason_of(error) == line


def test_what_cannot_be_compiled_as_a_whole_is_not_compiled_in_pieces() -> None:
    def in_pieces(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum().item() > 0 else x - 1

    with pytest.raises(Exception, match="item"):
        compiled(in_pieces)(torch.ones(2))


def test_options_belong_to_the_backend_that_is_used() -> None:
    assert compiling.BACKEND == "aot_eager"  # by the fixture; torch refuses options that a backend does not know
    assert compiling.OPTIONS is None
