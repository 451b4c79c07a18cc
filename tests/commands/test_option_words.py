"""Faults that `inspect` shows name its own options."""

from pathlib import Path

import pytest

from segpipe.commands.inspect import inspect
from segpipe.commands.option_words import OPTIONS, in_option_words
from segpipe.dataset.finding import Finding
from segpipe.errors import ConfigError
from segpipe.settings import DatasetSettings


def test_settings_become_options_and_paths_stay() -> None:
    assert in_option_words("set dataset.labels=DIR, or dataset.pattern") == "set --labels, or --pattern"
    assert in_option_words("/mnt/dataset.labels/x.nii: name it by dataset.channels.") == "/mnt/dataset.labels/x.nii: name it by --channel."
    assert in_option_words("dataset.fold is 5") == "dataset.fold is 5"  # inspect has no such option


def test_every_option_is_one_of_the_command() -> None:
    from typer.main import get_command

    from segpipe.cli.app import app

    known = {name for option in get_command(app).commands["inspect"].params for name in option.opts}  # type: ignore[attr-defined]
    assert {word for word in OPTIONS.values() if word.startswith("--")} <= known


def test_a_missing_label_folder_is_told_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nii.gz").write_bytes(b"x")
    with pytest.raises(ConfigError) as caught:
        inspect(DatasetSettings(root=str(tmp_path), labels="nowhere"))
    assert "dataset." not in str(caught.value)
    assert "--labels" in str(caught.value)


def test_findings_are_in_option_words_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.nii.gz").write_bytes(b"x")
    finding = Finding("error", "a", "", "says dataset.labels", "set dataset.label_names")
    monkeypatch.setattr("segpipe.commands.inspect.audit", lambda data, facts: [finding])
    inspect(DatasetSettings(root=str(tmp_path)), tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text()
    assert "set --label-name" in text
    assert "dataset.label" not in text
