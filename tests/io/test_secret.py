from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.errors import ConfigError
from segpipe.io.secret import read_secret


def test_a_secret_is_read_where_it_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("word\n")
    path.chmod(0o600)
    assert read_secret("--key", path, "a word") == "word\n"
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        with pytest.raises(ConfigError, match=rf"--key .*secret: others may read it .mode {mode:o}.*chmod 600"):
            read_secret("--key", path, "a word")


def test_what_cannot_be_read_is_told_without_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read.*must hold a word"):
        read_secret("--key", tmp_path / "none", "a word")
    path = tmp_path / "bytes"
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="--key .*bytes: cannot be read"):
        read_secret("--key", path, "a word")
