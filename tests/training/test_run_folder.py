"""A run folder is made once, and its records survive a resume."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from segpipe.errors import ConfigError, ModelError
from segpipe.settings import Settings, TrainingSettings
from segpipe.training.run_folder import (
    MetricsFile,
    check_same_config,
    environment,
    is_first_rank,
    leave_nothing,
    open_run,
    opened_run,
    read_plan,
)


def test_a_new_folder_is_made_with_all_its_parents(tmp_path: Path) -> None:
    assert open_run(tmp_path / "a" / "b", resume=False).checkpoints.is_dir()


def test_a_folder_with_a_run_is_only_opened_to_go_on(tmp_path: Path) -> None:
    run = open_run(tmp_path, resume=False)
    run.last.write_bytes(b"x")
    with pytest.raises(ConfigError, match="resume=auto"):
        open_run(tmp_path, resume=False)
    assert open_run(tmp_path, resume=True).root == tmp_path


def test_other_ranks_neither_make_nor_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_first_rank()
    open_run(tmp_path / "new", resume=False)
    assert not (tmp_path / "new").exists()


def test_a_resumed_record_drops_the_rows_that_will_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path, ["step", "loss"])
    for step in (1, 2, 3):
        first.add({"step": step, "loss": 0.5, "unknown": 7})
    MetricsFile(path, ["step", "loss"], first_step=2).add({"step": 3})
    assert [(row["step"], row["loss"]) for row in MetricsFile.read(path)] == [("1", "0.5"), ("2", "0.5"), ("3", "")]
    assert MetricsFile.read(tmp_path / "none.csv") == []


@pytest.mark.parametrize(("content", "error"), [("{", ConfigError), ("{}", ModelError), (None, ConfigError)])
def test_a_plan_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None, error: type[Exception]) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error):
        read_plan(path)


def test_the_environment_names_versions_and_is_json() -> None:
    found = json.loads(json.dumps(environment()))
    assert found["packages"]["torch"]
    assert found["segpipe"]


def test_a_run_goes_on_with_another_budget_but_not_with_another_network(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\nnetwork: {name: unet}\ntraining: {max_steps: 5, ema: 0.99}\n")
    check_same_config(path, "seed: 1\nnetwork: {name: unet}\ntraining: {max_steps: 9, ema: 0.99}\n")
    with pytest.raises(ConfigError, match=r"network\.name is 'vnet'"):
        check_same_config(path, "seed: 1\nnetwork: {name: vnet}\ntraining: {max_steps: 5, ema: 0.99}\n")
    with pytest.raises(ConfigError, match=r"training\.ema"):
        check_same_config(path, "seed: 1\nnetwork: {name: unet}\ntraining: {max_steps: 5, ema: 0}\n")
    check_same_config(tmp_path / "none.yaml", "seed: 1\n")


def test_a_setting_that_the_runs_version_did_not_know_had_its_default(tmp_path: Path) -> None:
    before = {"seed": 3, "training": {"lr": 0.01}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before))
    now = dataclasses.asdict(dataclasses.replace(Settings(seed=3), training=TrainingSettings(lr=0.01)))
    check_same_config(tmp_path / "config.yaml", yaml.safe_dump(now))
    now["network"]["kernels"] = [[3, 3, 3]]
    with pytest.raises(ConfigError, match=r"network\.kernels is .* began with \[\]"):
        check_same_config(tmp_path / "config.yaml", yaml.safe_dump(now))


def test_a_folder_with_a_model_alone_is_not_trained_over(tmp_path: Path) -> None:
    (tmp_path / "model.ts").write_bytes(b"model")
    with pytest.raises(ConfigError, match="holds a run already"):
        open_run(tmp_path, False)


def test_a_start_that_failed_leaves_no_folder_but_a_decided_run_stays(tmp_path: Path) -> None:
    run = open_run(tmp_path / "failed", False)
    run.log.write_text("reading 3 cases\n")
    leave_nothing(run)
    assert not run.root.exists()
    run = open_run(tmp_path / "decided", False)
    run.plan.write_text("{}")
    run.log.write_text("reading\n")
    leave_nothing(run)
    assert run.log.exists() and run.checkpoints.is_dir()


def test_a_run_is_open_to_one_training_and_to_its_other_ranks(tmp_path: Path) -> None:
    code = "import sys, pathlib; from segpipe.training.run_folder import opened_run\nwith opened_run(pathlib.Path(sys.argv[1]), True): pass"
    with opened_run(tmp_path / "run", resume=False) as run:
        run.log.write_text("mine")
        found = [
            subprocess.run(
                [sys.executable, "-c", code, str(run.root)], env={**os.environ, "LOCAL_RANK": rank}, capture_output=True, text=True
            )
            for rank in ("0", "1")
        ]
        assert run.log.read_text() == "mine"
    assert [one.returncode for one in found] == [1, 0], found[1].stderr
    assert "another training (process" in found[0].stderr


def test_the_cache_of_a_run_is_removed_however_it_ends(tmp_path: Path) -> None:
    for ends in (None, KeyboardInterrupt):
        try:
            with opened_run(tmp_path / "run", resume=True) as run:
                run.plan.write_text("{}")
                run.cache.mkdir()
                (run.cache / "patient.image.npy").write_bytes(b"x")
                if ends:
                    raise ends
        except KeyboardInterrupt:
            pass
        assert {path.name for path in (tmp_path / "run").iterdir()} == {"plan.json", "checkpoints"}


def test_a_start_that_failed_leaves_neither_its_lock_nor_its_cache(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no"), opened_run(tmp_path / "run", resume=False) as run:
        run.cache.mkdir()
        (run.cache / "patient.image.npy").write_bytes(b"x")
        run.log.write_text("reading")
        raise ConfigError("no")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_names_the_file_of_the_metrics() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        MetricsFile(Path("/dev/full"), ["step"])
    assert caught.value.filename == "/dev/full"
    file = MetricsFile.__new__(MetricsFile)
    file.path, file.columns = Path("/dev/full"), ["step"]
    with pytest.raises(OSError, match="No space left") as caught:
        file.add({"step": 1})
    assert caught.value.filename == "/dev/full"
