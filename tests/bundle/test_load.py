"""A package is taken where a model file is, and what it holds is what is used."""

from pathlib import Path

import pytest

from segpipe.cli import main
from segpipe.errors import ModelError
from segpipe.settings import Settings
from tests.bundle.conftest import put


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Settings with which trainings would have begun."""
    seen: list[Settings] = []
    monkeypatch.setattr("segpipe.commands.train.run_training", lambda settings, _: seen.append(settings))
    return seen


def test_a_training_begins_with_the_model_file_of_a_package(made: Path, folder: Path, archive: Path, begun: list[Settings]) -> None:
    for source in (folder, archive):
        with pytest.raises(SystemExit) as ended:
            main(["train", f"dataset.root={made}", f"training.init={source}", "training.max_steps=1"])
        assert ended.value.code == 0
        assert Path(begun.pop().training.init).read_bytes() == (made / "model.ts").read_bytes()


def test_a_training_refuses_a_package_that_is_refused(
    made: Path, folder: Path, begun: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    put(folder, "extra.pkl", b"x")
    with pytest.raises(SystemExit) as ended:
        main(["train", f"dataset.root={made}", f"training.init={folder}", "training.max_steps=1"])
    assert (ended.value.code, begun) == (ModelError.exit_code, [])
    assert "extra.pkl" in capsys.readouterr().err


def test_a_model_file_stays_what_was_given(made: Path, begun: list[Settings]) -> None:
    with pytest.raises(SystemExit):
        main(["train", f"dataset.root={made}", f"training.init={made / 'model.ts'}", "training.max_steps=1"])
    assert begun[0].training.init == str(made / "model.ts")
