import os
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

from segpipe.config.compose import Composed, compose_settings
from segpipe.config.sweep import sweep
from segpipe.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["segpipe", "train", "-m"])


def jobs(*words: str) -> list[Composed]:
    found: list[Composed] = []
    sweep(words, "train", found.append)
    return found


def test_each_combination_runs_once_in_a_folder_of_its_own() -> None:
    found = jobs("conf=phantom", "seed=1,2", "network=unet,vnet")
    assert [(job.settings.seed, job.settings.network.name) for job in found] == [(1, "unet"), (1, "vnet"), (2, "unet"), (2, "vnet")]
    assert found[1].settings.run_dir == "runs/phantom/seed=1,network=vnet"
    assert len({job.settings.run_dir for job in found}) == 4
    assert all(f"run_dir: {job.settings.run_dir}" in job.yaml for job in found)


def test_the_folders_are_the_same_when_the_sweep_is_repeated() -> None:
    words = ("conf=phantom", "dataset.split=folds", "dataset.fold=range(2)", "run_dir=out/folds")
    for _ in range(2):
        assert [job.settings.run_dir for job in jobs(*words)] == ["out/folds/fold=0", "out/folds/fold=1"]


def test_a_run_folder_that_names_what_changes_is_left_as_it_is() -> None:
    assert [job.settings.run_dir for job in jobs("conf=phantom", "seed=1,2", "run_dir=out/${name}/s${seed}")] == [
        "out/phantom/s1",
        "out/phantom/s2",
    ]


def test_two_runs_in_one_folder_are_refused() -> None:
    with pytest.raises(ConfigError, match="^run_dir: is out/phantom for two runs of the sweep"):
        jobs("conf=phantom", "seed=1,2", "run_dir=out/${name}")


def test_tasks_can_be_swept_a_users_file_among_them(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    found = jobs("conf=phantom,./mine.yaml")
    assert [job.settings.run_dir for job in found] == ["runs/phantom/conf=phantom", "runs/mine/conf=mine"]


def test_while_a_job_runs_the_arguments_are_those_of_the_same_single_run(tmp_path: Path) -> None:
    (tmp_path / "my task.yaml").write_text("name: mine\ndataset: {label_names: {2: TZ}}\n")
    seen: list[tuple[Composed, list[str], bool]] = []
    words = ["conf=./my task.yaml", "seed=1,2", "dataset.root='a b,(c)'", "dataset.label_names={1:PZ}"]
    sweep(words, "train", lambda job: seen.append((job, list(sys.argv), HydraConfig.initialized())))
    for job, argv, hydra_is_seen in seen:
        assert argv[:2] == ["segpipe", "train"]
        assert "-m" not in argv
        assert compose_settings(argv[2:]) == job
        assert job.settings.dataset.label_names == {"1": "PZ"}
        assert not hydra_is_seen  # else Lightning would add Hydra's own words to the ranks' command lines
    assert sys.argv == ["segpipe", "train", "-m"]


def test_a_jobs_environment_is_not_handed_to_the_next() -> None:
    ranks = []

    def run_with_ddp(job: Composed) -> None:
        ranks.append(os.environ.get("LOCAL_RANK"))
        os.environ["LOCAL_RANK"] = "0"

    sweep(["conf=phantom", "seed=1,2"], "train", run_with_ddp)
    assert ranks == [None, None]
    assert "LOCAL_RANK" not in os.environ


def test_an_error_of_one_job_is_raised_after_the_others_had_their_turn() -> None:
    turns = []

    def fail_first(job: Composed) -> None:
        turns.append(job.settings.seed)
        if job.settings.seed == 1:
            raise DataError("a.nii: is broken")

    with pytest.raises(DataError, match="^a.nii: is broken$"):
        sweep(["conf=phantom", "seed=1,2"], "train", fail_first)
    assert turns == [1, 2]


def test_a_wrong_value_among_several_is_refused_before_the_first_run() -> None:
    found: list[Composed] = []
    with pytest.raises(ConfigError, match="^training.max_minutes: is -1; must be a number from 0 to 100000$"):
        sweep(["conf=phantom", "training.max_minutes=2,-1"], "train", found.append)
    assert found == []


def test_a_sweep_of_nothing_is_one_run() -> None:
    assert [job.settings.run_dir for job in jobs("conf=phantom")] == ["runs/phantom"]
