"""Jobs through submitit's local executor: all at once, what is done stays done, a failure is told with its own line."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from segpipe.errors import ConfigError, DataError
from segpipe.folds.launch import _submit, launch_all
from segpipe.folds.members import Ledger, Member
from segpipe.settings import LaunchSettings, Settings, TrainingSettings

MEMBERS = [Member(fold, 7, f"fold_{fold}") for fold in (0, 1)]


def settings(cluster: str = "local", **options: str) -> Settings:
    return Settings(name="t", training=TrainingSettings(max_minutes=1), launch=LaunchSettings(cluster, options))


def command(run_dir: Path, fails: int = -1) -> Callable[[Member], list[str]]:
    def words(member: Member) -> list[str]:
        code = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(exist_ok=True); (p / 'model.ts').write_text('model')"
        broken = "import sys; sys.stderr.write('loading\\nerror: the scan x is broken: mend it\\n'); sys.exit(3)"
        return [sys.executable, "-c", broken if member.fold == fails else code, str(member.root(run_dir))]

    return words


def test_all_trainings_run_and_a_second_call_has_nothing_to_do(tmp_path: Path) -> None:
    launch_all(MEMBERS, tmp_path, settings(timeout_min="3"), command(tmp_path))
    assert all(Ledger(tmp_path).is_done(member, tmp_path) for member in MEMBERS)
    logs = len(list((tmp_path / "jobs").iterdir()))
    assert logs
    launch_all(MEMBERS, tmp_path, settings(), command(tmp_path, fails=0))
    assert len(list((tmp_path / "jobs").iterdir())) == logs


def test_a_failure_is_told_with_its_own_line_and_the_others_are_kept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 2 trainings failed; .*fold_1: the scan x is broken: mend it; .*training\.resume=auto"):
        launch_all(MEMBERS, tmp_path, settings(), command(tmp_path, fails=1))
    assert [Ledger(tmp_path).is_done(member, tmp_path) for member in MEMBERS] == [True, False]
    launch_all(MEMBERS, tmp_path, settings(), command(tmp_path))
    assert Ledger(tmp_path).is_done(MEMBERS[1], tmp_path)


def test_an_unknown_option_and_a_missing_cluster_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="launch: submitit cannot start the jobs .*colour"):
        launch_all(MEMBERS, tmp_path, settings(colour="blue"), command(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="launch: submitit cannot start the jobs"):
        launch_all(MEMBERS, tmp_path, settings("slurm"), command(tmp_path))


def test_without_submitit_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"needs submitit: pip install 'segpipe\[slurm\]'"):
        launch_all(MEMBERS, tmp_path, settings(), command(tmp_path))


@pytest.mark.parametrize(
    ("training", "minutes"), [({"max_minutes": 10}, 45), ({"max_minutes": 10, "schedule_file": "schedule.json"}, 7 * 24 * 60)]
)
def test_a_job_gets_the_time_of_the_budget_that_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], minutes: int
) -> None:
    import submitit

    asked: dict[str, Any] = {}
    monkeypatch.setattr(submitit.AutoExecutor, "update_parameters", lambda _, **options: asked.update(options))
    monkeypatch.setattr(submitit.AutoExecutor, "submit", lambda *_: None)
    monkeypatch.setattr(submitit.AutoExecutor, "batch", lambda _: nullcontext())
    wanted = Settings(name="t", training=TrainingSettings(**training), launch=LaunchSettings("local"))
    _submit(MEMBERS, tmp_path, wanted, command(tmp_path))
    assert asked["timeout_min"] == minutes
