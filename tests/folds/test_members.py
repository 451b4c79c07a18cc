"""Which trainings there are, with which settings, and which are left."""

import dataclasses
from pathlib import Path

import pytest

from segpipe.errors import ConfigError, DataError
from segpipe.folds.members import Ledger, Member, member_settings, members_of, train_all
from segpipe.settings import DatasetSettings, Settings, TrainingSettings


def settings(**training: object) -> Settings:
    return Settings(seed=7, folds="all", dataset=DatasetSettings(fraction=0.3), training=TrainingSettings(**training))


def test_every_fold_with_every_seed() -> None:
    assert [member.name for member in members_of(settings(), [0, 1, 2])] == ["fold_0", "fold_1", "fold_2"]
    assert members_of(settings(seeds=2), []) == [Member(None, 7, "seed_7"), Member(None, 8, "seed_8")]
    both = members_of(settings(seeds=2), [0, 3])
    assert [(member.fold, member.seed, member.name) for member in both] == [
        (0, 7, "fold_0_seed_7"),
        (0, 8, "fold_0_seed_8"),
        (3, 7, "fold_3_seed_7"),
        (3, 8, "fold_3_seed_8"),
    ]


def test_every_configuration_on_every_fold() -> None:
    members = members_of(settings(), [0, 1], ("3d", "2d"))
    assert [member.name for member in members] == ["3d_fold_0", "3d_fold_1", "2d_fold_0", "2d_fold_1"]
    assert members_of(settings(), [], ("2d",)) == [Member(None, 7, "2d", "2d")]
    assert members_of(settings(seeds=2), [], ("2d",))[1] == Member(None, 8, "2d_seed_8", "2d")
    own = member_settings(settings(), members[2], Path("run"))
    assert (own.plan.file, own.configurations, own.run_dir) == ("run/plan_2d.json", [], "run/2d_fold_0")
    assert member_settings(settings(), Member(0, 7, "fold_0"), Path("run")).plan.file == "run/plan.json"


def test_a_member_is_a_single_training_on_a_split_that_its_seed_does_not_change() -> None:
    own = member_settings(settings(seeds=2, resume="never"), Member(3, 8, "fold_3_seed_8"), Path("run"))
    assert (own.folds, own.seed, own.run_dir) == ("none", 8, "run/fold_3_seed_8")
    assert (own.dataset.split, own.dataset.fold, own.dataset.split_seed) == ("folds", 3, 7)
    assert (own.training.seeds, own.training.resume) == (1, "auto")
    alone = member_settings(settings(seeds=2), Member(None, 8, "seed_8"), Path("run"))
    assert (alone.dataset.split, alone.dataset.fraction, alone.dataset.split_seed) == ("fraction", 0.3, 7)
    chosen = dataclasses.replace(settings(), dataset=DatasetSettings(split_seed=5))
    assert member_settings(chosen, Member(0, 7, "fold_0"), Path("run")).dataset.split_seed == 5


def finish(root: Path, member: Member) -> int:
    member.root(root).mkdir(exist_ok=True)
    (member.root(root) / "model.ts").write_bytes(b"model")
    return 0


def test_what_is_done_is_not_trained_again(tmp_path: Path) -> None:
    members, trained = members_of(settings(), [0, 1, 2]), []

    def train(member: Member) -> int:
        trained.append(member.name)
        return 130 if trained == ["fold_0", "fold_1"] else finish(tmp_path, member)

    assert train_all(members, tmp_path, train) == 130
    assert train_all(members, tmp_path, train) == 0
    assert trained == ["fold_0", "fold_1", "fold_1", "fold_2"]
    assert train_all(members, tmp_path, train) == 0
    (tmp_path / "fold_2/model.ts").unlink()
    assert train_all(members, tmp_path, train) == 0
    assert trained[4:] == ["fold_2"]


def test_a_failed_training_is_named_and_those_before_it_are_kept(tmp_path: Path) -> None:
    members = members_of(settings(), [0, 1])
    with pytest.raises(DataError, match=r"fold_1: its training ended with exit code 3.*training\.resume=auto"):
        train_all(members, tmp_path, lambda member: 3 if member.fold else finish(tmp_path, member))
    assert [Ledger(tmp_path).is_done(member, tmp_path) for member in members] == [True, False]


def test_a_damaged_ledger_is_told(tmp_path: Path) -> None:
    (tmp_path / "folds.json").write_text("[1")
    with pytest.raises(ConfigError, match=r"folds\.json: cannot be read"):
        Ledger(tmp_path)
