"""Whole trainings through the real run: repeatable, resumable, complete."""

import dataclasses
import json
import logging
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from segpipe.dataset.phantom import write_phantom
from segpipe.errors import ConfigError, DataError
from segpipe.io.read import read_volume
from segpipe.io.write import write_label_map
from segpipe.package.model_file import load_model
from segpipe.settings import AugmentSettings, DatasetSettings, Effect, NetworkSettings, Settings, TrainingSettings
from segpipe.training.checkpoint import network_weights, read_checkpoint
from segpipe.training.in_flight import InFlight, Taken
from segpipe.training.run import make_budget, run_training
from segpipe.training.run_folder import MetricsFile
from segpipe.training.validation import CaseDice, validate
from tests.training.given import tiny

STOPPER = '''
"""Stops a run as a user would, at a step."""
import os, pathlib, shutil, signal
import psutil
import pytorch_lightning as pl

class Stopper(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, *rest):
        if pl_module.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

class Keeper(pl.Callback):
    """Keeps the checkpoint that the validation of step 2 wrote."""
    def on_train_batch_start(self, trainer, pl_module, batch, *rest):
        folder = pathlib.Path(trainer.default_root_dir) / "checkpoints"
        if batch["step"] == 2:
            shutil.copy(folder / "last.ckpt", folder / "step2.ckpt")

class Poison(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, *rest):
        if batch["step"] == 1:
            batch["image"].fill_(float("nan"))

class Steep(pl.Callback):
    """A finite loss with gradients that are not."""
    def on_after_backward(self, trainer, pl_module):
        if pl_module.global_step == 1:
            next(pl_module.network.parameters()).grad.fill_(float("inf"))

class Impatient(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, *rest):
        if pl_module.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

class Content(pl.Callback):
    """Stops by itself, as early stopping does."""
    def on_train_batch_end(self, trainer, pl_module, *rest):
        trainer.should_stop = pl_module.global_step == 3

class Cache(pl.Callback):
    """Notes what lies in the cache while the run goes."""
    def on_train_end(self, trainer, pl_module):
        folder = pathlib.Path(trainer.default_root_dir)
        (folder / "cached").write_text(" ".join(path.name for path in folder.glob("cache/*")))

class LoaderKiller(pl.Callback):
    """As the system does when memory runs out."""
    def on_train_batch_end(self, trainer, pl_module, *rest):
        for child in psutil.Process().children():
            child.kill()

class NoMemory(pl.Callback):
    def on_train_batch_start(self, *rest):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_phantom(folder, "prostate", cases=4, seed=3, size="small")
    return folder


@pytest.fixture
def callbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "segpipe_test_callbacks.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("segpipe_test_callbacks", None)


def settings(data: Path, run: Path, **training: object) -> Settings:
    effects = {"rotate": Effect(0.5, -20, 20), "noise": Effect(0.5, 0.0, 0.1), "flip": Effect(0.5)}
    return tiny(data, run, "cpu", AugmentSettings(**effects), {"max_steps": 6, "validate_steps": 2, "overlays": 1} | training)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return network_weights(run / "checkpoints" / "last.ckpt")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_leaves_everything_it_promises(data: Path, tmp_path: Path) -> None:
    done = run_training(settings(data, tmp_path / "run"), "name: tiny\n")
    names = ["config.yaml", "plan.json", "splits.json", "metrics.csv", "log.txt", "environment.json", "curves.png", "model.ts"]
    for name in [*names, "checkpoints/last.ckpt", "checkpoints/best.ckpt", "validation.json", "schedule.json"]:
        assert (tmp_path / "run" / name).stat().st_size > 0, name
    assert len(list((tmp_path / "run" / "overlays").glob("*.png"))) == 1
    assert done is not None
    assert done.steps == 6
    rows = MetricsFile.read(tmp_path / "run" / "metrics.csv")
    assert [row["step"] for row in rows if row["dice mean"]] == ["2", "4", "6"]
    model = load_model(tmp_path / "run" / "model.ts")
    assert [label.name for label in model.plan.labels] == ["background", "label 1", "label 2"]
    held_out = json.loads((tmp_path / "run" / "splits.json").read_text())
    assert held_out["validation"][0] not in (tmp_path / "run" / "model.ts").read_bytes().decode("latin-1")
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["packages"]["torch"].startswith("2.")


def test_the_same_seed_gives_the_same_weights_bit_for_bit(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_training(settings(data, tmp_path / name), "")
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_another_seed_gives_other_weights(data: Path, tmp_path: Path) -> None:
    run_training(settings(data, tmp_path / "one"), "")
    run_training(dataclasses.replace(settings(data, tmp_path / "two"), seed=8), "")
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_validating_more_often_does_not_change_the_weights(data: Path, tmp_path: Path) -> None:
    run_training(settings(data, tmp_path / "one"), "")
    run_training(settings(data, tmp_path / "two", validate_steps=1), "")
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(data: Path, tmp_path: Path, callbacks: None) -> None:
    run_training(settings(data, tmp_path / "whole"), "")
    handler = signal.getsignal(signal.SIGTERM)
    stopped = run_training(settings(data, tmp_path / "parts", callback="segpipe_test_callbacks.Stopper"), "")
    assert signal.getsignal(signal.SIGTERM) == handler
    assert stopped is not None
    assert (stopped.signal, stopped.steps) == ("SIGTERM", 3)
    assert stopped.model.exists()
    done = run_training(settings(data, tmp_path / "parts", resume="auto"), "")
    assert done is not None
    assert done.steps == 6
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    steps = [int(row["step"]) for row in MetricsFile.read(tmp_path / "parts" / "metrics.csv")]
    assert steps == sorted(steps)


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint_bit_for_bit(data: Path, tmp_path: Path, callbacks: None) -> None:
    run_training(settings(data, tmp_path / "whole"), "")
    kept = tmp_path / "kept.ckpt"
    run_training(settings(data, tmp_path / "parts", callback="segpipe_test_callbacks.Keeper"), "")
    shutil.copy(tmp_path / "parts" / "checkpoints" / "step2.ckpt", kept)
    shutil.copy(kept, tmp_path / "parts" / "checkpoints" / "last.ckpt")  # what a kill after step 2 leaves
    done = run_training(settings(data, tmp_path / "parts", resume="auto"), "")
    assert done is not None
    assert done.steps == 6
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_the_best_checkpoint_survives_a_kill(data: Path, tmp_path: Path, callbacks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([0.9, 0.5, 0.4])
    monkeypatch.setattr("segpipe.training.callbacks.validate", lambda *_, **__: [CaseDice("a", [next(told)] * 2)])
    run_training(settings(data, tmp_path / "run", callback="segpipe_test_callbacks.Keeper", max_steps=8), "")
    checkpoints = tmp_path / "run" / "checkpoints"
    best = (checkpoints / "best.ckpt").read_bytes()
    assert read_checkpoint(checkpoints / "best.ckpt")["global_step"] == 2
    shutil.move(checkpoints / "step2.ckpt", checkpoints / "last.ckpt")  # what a kill after step 2 leaves
    assert read_checkpoint(checkpoints / "last.ckpt")["segpipe"]["best"] == 0.9
    told = iter([0.5, 0.4])
    run_training(settings(data, tmp_path / "run", resume="auto", max_steps=8), "")
    assert (checkpoints / "best.ckpt").read_bytes() == best


def test_a_budget_that_preparation_alone_uses_up_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_minutes"):
        run_training(settings(data, tmp_path / "run", max_steps=0, max_minutes=1e-6), "")


def test_resuming_a_finished_run_trains_no_further_and_keeps_its_weights(data: Path, tmp_path: Path) -> None:
    run_training(settings(data, tmp_path / "run"), "")
    before = weights(tmp_path / "run")
    again = run_training(settings(data, tmp_path / "run", resume="auto"), "")
    assert again is not None
    assert again.steps == 6
    assert same(before, weights(tmp_path / "run"))


def test_a_run_with_a_time_budget_can_be_repeated_from_its_schedule(data: Path, tmp_path: Path) -> None:
    done = run_training(settings(data, tmp_path / "timed", max_steps=0, max_minutes=0.05, validate_steps=0), "")
    assert done is not None
    assert done.steps > 0
    schedule = tmp_path / "timed" / "schedule.json"
    run_training(settings(data, tmp_path / "repeated", max_steps=0, schedule_file=str(schedule)), "")
    assert same(weights(tmp_path / "timed"), weights(tmp_path / "repeated"))


def test_a_folder_that_holds_a_run_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    run_training(settings(data, tmp_path / "run", max_steps=1), "")
    with pytest.raises(ConfigError, match="resume=auto"):
        run_training(settings(data, tmp_path / "run", max_steps=1), "")


def test_a_loss_that_is_not_finite_names_its_cases(data: Path, tmp_path: Path, callbacks: None) -> None:
    with pytest.raises(DataError, match=r"step 1 .*prostate_00"):
        run_training(settings(data, tmp_path / "run", callback="segpipe_test_callbacks.Poison"), "")


@pytest.mark.parametrize("after", [2, 100])
def test_what_a_gpu_tells_late_is_known_before_anything_is_kept(
    data: Path, tmp_path: Path, callbacks: None, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    class Late(InFlight):
        """As a GPU that is never quick enough to be read within its steps."""

        def put(self, loss: torch.Tensor, norm: torch.Tensor, at: str) -> list[Taken]:
            self._unread.append((torch.stack([loss.detach(), norm.detach()]), None, at))
            return []

    monkeypatch.setattr("segpipe.training.module.InFlight", Late)
    with pytest.raises(DataError, match=r"the loss became nan at step 1 .*prostate_00"):
        run_training(settings(data, tmp_path / "run", validate_steps=after, callback="segpipe_test_callbacks.Poison"), "")
    assert not list((tmp_path / "run").rglob("*.ckpt"))
    assert not (tmp_path / "run/model.ts").exists()
    run_training(settings(data, tmp_path / "well", validate_steps=after), "")
    assert MetricsFile.read(tmp_path / "well/metrics.csv")[-1]["step"] == "6"


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_gradients_that_are_not_finite_never_reach_the_weights(data: Path, tmp_path: Path, callbacks: None, clip: float) -> None:
    with pytest.raises(DataError, match=r"gradients became (inf|nan) at step 1 with patches of prostate_00"):
        run_training(settings(data, tmp_path / "run", clip=clip, validate_steps=1, callback="segpipe_test_callbacks.Steep"), "")
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


def test_bf16_trains_validates_and_exports(data: Path, tmp_path: Path) -> None:
    done = run_training(settings(data, tmp_path / "half", precision="bf16"), "")
    run_training(settings(data, tmp_path / "single", precision="fp32"), "")
    assert done is not None
    assert json.loads((tmp_path / "half" / "environment.json").read_text())["precision"] == "bf16"
    assert not same(weights(tmp_path / "half"), weights(tmp_path / "single"))
    assert all(value.dtype != torch.bfloat16 and torch.isfinite(value).all() for value in weights(tmp_path / "half").values())
    assert load_model(done.model).plan.classes == 3


def test_a_second_ctrl_c_ends_at_once_and_gives_the_signals_back(data: Path, tmp_path: Path, callbacks: None) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run_training(settings(data, tmp_path / "run", callback="segpipe_test_callbacks.Impatient"), "")
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run" / "model.ts").exists()
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()  # of step 2: the run can go on


def test_a_run_that_validates_nothing_on_the_way_has_a_best_checkpoint_too(data: Path, tmp_path: Path) -> None:
    run_training(settings(data, tmp_path / "run", validate_steps=100), "")
    best = network_weights(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert same(best, weights(tmp_path / "run"))


def test_a_time_budget_is_kept(data: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    run_training(settings(data, tmp_path / "run", max_steps=0, max_minutes=0.2, validate_steps=0), "")
    assert time.monotonic() - begun < 12 + 12  # the export and a busy machine, beyond the 12 seconds
    assert float(json.loads((tmp_path / "run" / "schedule.json").read_text())["seconds"]) <= 13


def test_cases_over_the_memory_budget_give_the_same_weights_from_the_disk_and_leave_nothing_there(
    data: Path, tmp_path: Path, callbacks: None
) -> None:
    watch = {"callback": "segpipe_test_callbacks.Cache"}
    run_training(settings(data, tmp_path / "memory", **watch), "")
    run_training(settings(data, tmp_path / "disk", cache_gb=0.0, **watch), "")
    assert ".image.npy" in (tmp_path / "disk/cached").read_text()
    assert (tmp_path / "memory/cached").read_text() == ""
    assert not list(tmp_path.rglob("*.npy"))
    assert same(weights(tmp_path / "memory"), weights(tmp_path / "disk"))


def test_running_out_of_memory_says_which_setting_to_lower_and_to_what(data: Path, tmp_path: Path, callbacks: None) -> None:
    with pytest.raises(ConfigError, match=r"plan\.batch_size=1"):
        run_training(settings(data, tmp_path / "run", callback="segpipe_test_callbacks.NoMemory"), "")


def test_a_loader_process_that_the_system_killed_is_told_in_one_line(data: Path, tmp_path: Path, callbacks: None) -> None:
    with pytest.raises(ConfigError, match=r"a loader process was ended.*training\.workers=1"):
        run_training(settings(data, tmp_path / "run", workers=2, max_steps=50, callback="segpipe_test_callbacks.LoaderKiller"), "")


def test_tensorboard_and_mlflow_get_the_loss_and_the_dice(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra segpipe[tensorboard] is not installed")
    pytest.importorskip("mlflow", reason="the extra segpipe[mlflow] is not installed")
    store = tmp_path / "mlruns"
    run_training(settings(data, tmp_path / "run", max_steps=2, tensorboard=True, mlflow=f"file:{store}"), "")
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert {path.name for path in store.glob("*/*/metrics/*")} >= {"loss", "lr"}
    assert list(store.glob("*/*/metrics/dice/mean"))


def test_an_address_that_mlflow_cannot_use_is_refused(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra segpipe[mlflow] is not installed")
    with pytest.raises(ConfigError, match=r"training\.mlflow"):
        run_training(settings(data, tmp_path / "run", max_steps=1, mlflow="nothing://here"), "")


@pytest.mark.parametrize("target", ["nothing.Here", "NoDot", "segpipe.settings.Settings"])
def test_a_callback_that_is_none_is_refused(data: Path, tmp_path: Path, target: str) -> None:
    with pytest.raises(ConfigError, match=r"training\.callback"):
        run_training(settings(data, tmp_path / "run", callback=target), "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="writ"):
        run_training(settings(data, tmp_path / "closed" / "run"), "")


def test_a_run_folder_that_is_a_file_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="run_dir"):
        run_training(settings(data, tmp_path / "file"), "")


def test_without_any_budget_training_takes_half_an_hour() -> None:
    assert make_budget(Settings()).max_seconds == 30 * 60


def test_steps_rule_over_minutes() -> None:
    budget = make_budget(Settings(training=TrainingSettings(max_steps=5, max_minutes=3.0)))
    assert (budget.max_steps, budget.max_seconds) == (5, 0.0)


def test_an_earlier_schedule_rules_over_steps_and_minutes(tmp_path: Path) -> None:
    (tmp_path / "schedule.json").write_text(json.dumps({"learning_rates": [0.1, 0.2]}))
    training = TrainingSettings(max_steps=5, max_minutes=3.0, schedule_file=str(tmp_path / "schedule.json"))
    budget = make_budget(Settings(training=training))
    assert (budget.max_steps, budget.max_seconds, budget.replay) == (2, 0.0, [0.1, 0.2])


@pytest.mark.parametrize("wrong", [{"callback": "no.Where"}, {"class_weights": {"liver": 2.0}}, {"init": "/nowhere"}])
def test_settings_that_cannot_work_are_refused_before_the_scans_are_prepared_and_leave_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object]
) -> None:
    monkeypatch.setattr("segpipe.training.run.prepare_cases", lambda *_: pytest.fail("prepared"))
    with pytest.raises(ConfigError, match=rf"training\.{next(iter(wrong))}"):
        run_training(settings(data, tmp_path / "run", **wrong), "")
    assert not (tmp_path / "run").exists()


def test_pictures_that_cannot_be_drawn_cost_no_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        assert (tmp_path / "run/model.ts").exists(), "the model comes first"
        raise TypeError("no contour")

    monkeypatch.setattr("segpipe.training.finish.draw_overlay", fail)
    monkeypatch.setattr("segpipe.training.finish.draw_curves", fail)
    assert run_training(settings(data, tmp_path / "run"), "") is not None
    [name] = json.loads((tmp_path / "run/splits.json").read_text())["validation"]
    assert f"the overlay of case {name} could not be drawn (TypeError: no contour)" in caplog.text
    assert "curves.png could not be drawn (TypeError: no contour)" in caplog.text


def test_a_signal_in_the_last_validation_ends_it_after_the_case_in_hand_and_the_model_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def validate_and_stop(*arguments: object) -> list[CaseDice]:
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*arguments)

    monkeypatch.setattr("segpipe.training.finish.validate", validate_and_stop)
    wanted = settings(data, tmp_path / "run")
    done = run_training(dataclasses.replace(wanted, dataset=dataclasses.replace(wanted.dataset, fraction=0.5)), "")
    assert done is not None
    assert (done.signal, done.early, done.cases, done.steps) == ("SIGTERM", True, 1, 6)
    assert done.model.exists()
    assert "SIGTERM: validating no further case; a usable model follows" in caplog.text
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_its_own_callback_ends_is_told_to_have_ended_early(data: Path, tmp_path: Path, callbacks: None) -> None:
    done = run_training(settings(data, tmp_path / "run", callback="segpipe_test_callbacks.Content"), "")
    assert done is not None
    assert (done.signal, done.early, done.steps) == ("", True, 3)
    whole = run_training(settings(data, tmp_path / "run", resume="auto"), "")
    assert whole is not None and not whole.early


def test_a_run_begins_with_another_ones_weights_and_frozen_stages_stay_as_they_are(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_training(settings(data, tmp_path / "first"), "")
    with caplog.at_level("INFO"):
        run_training(settings(data, tmp_path / "second", init=str(tmp_path / "first"), thaw=[1.0]), "")
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    frozen = [name for name in before if name.startswith("backbone.encoder.0.")]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["backbone.encoder.1.0.conv.weight"], after["backbone.encoder.1.0.conv.weight"])
    assert f"{len(before)} of {len(before)} weights taken" in caplog.text


def test_a_resumed_run_with_stages_that_thaw_equals_an_uninterrupted_one(data: Path, tmp_path: Path, callbacks: None) -> None:
    run_training(settings(data, tmp_path / "first"), "")
    with_init = {"init": str(tmp_path / "first"), "thaw": [0.6, 0.2], "stage_lr": [0.1]}
    run_training(settings(data, tmp_path / "whole", **with_init), "")
    run_training(settings(data, tmp_path / "parts", **with_init, callback="segpipe_test_callbacks.Stopper"), "")
    shutil.rmtree(tmp_path / "first")  # no longer needed to go on
    run_training(settings(data, tmp_path / "parts", **with_init, resume="auto"), "")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    whole = tmp_path / "whole"
    run_training(
        settings(data, tmp_path / "repeated", **(with_init | {"init": str(whole)}), schedule_file=str(whole / "schedule.json")), ""
    )
    assert (
        json.loads((tmp_path / "repeated/schedule.json").read_text())["shares"]
        == json.loads((whole / "schedule.json").read_text())["shares"]
    )


def test_slices_that_were_not_annotated_are_as_good_as_ignored_by_hand(data: Path, tmp_path: Path) -> None:
    plans = {}
    for name, dataset in (("ignored", {"ignore": [9]}), ("sparse", {"sparse": "z"})):
        shutil.copytree(data, tmp_path / name)
        for path in (tmp_path / name / "labels").iterdir():
            volume = read_volume(path)
            labels = volume.array[0].copy()
            empty = ~labels.any(axis=(0, 1))
            empty[::2] = True
            labels[:, :, empty] = 9 if name == "ignored" else 0
            write_label_map(path, labels, volume.grid)
        wanted = settings(data, tmp_path / f"run-{name}")
        assert run_training(dataclasses.replace(wanted, dataset=DatasetSettings(root=str(tmp_path / name), **dataset)), "") is not None
        plans[name] = load_model(tmp_path / f"run-{name}/model.ts").plan
    assert [label.value for label in plans["ignored"].labels] == [0, 1, 2]
    assert (plans["ignored"].ignore, plans["sparse"].sparse) == ((9,), "z")
    assert same(weights(tmp_path / "run-ignored"), weights(tmp_path / "run-sparse"))
    scores = [json.loads((tmp_path / f"run-{name}/validation.json").read_text())["dice"] for name in plans]
    assert scores[0] == scores[1]


def test_overlapping_regions_are_learnt_and_written_in_the_users_values(data: Path, tmp_path: Path) -> None:
    wanted = settings(data, tmp_path / "run")
    regions = {"gland": [1, 2], "inner": [2]}
    done = run_training(dataclasses.replace(wanted, dataset=dataclasses.replace(wanted.dataset, regions=regions)), "")
    assert done is not None and list(done.dice) == ["gland", "inner"]
    model = load_model(tmp_path / "run/model.ts")
    assert [(region.name, region.members, region.paints) for region in model.plan.regions] == [("gland", (1, 2), 1), ("inner", (2,), 2)]
    assert model.network(torch.zeros(1, 1, 16, 16, 8)).shape == (1, 2, 16, 16, 8)
    assert "dice gland" in MetricsFile.read(tmp_path / "run/metrics.csv")[0]


def small(data: Path, run: Path, **training: object) -> Settings:
    """Of a network that is soon followed, or built."""
    return dataclasses.replace(
        settings(data, run, **training), network=NetworkSettings(features=[4], stages=1, convolutions=1, dropout=0.2)
    )


def failing(graph: object, inputs: object) -> None:
    raise RuntimeError("no compiler\nwhatsoever")


def test_a_run_whose_network_cannot_be_compiled_is_bit_for_bit_one_that_was_not_to_be(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(small(data, tmp_path / "eager"), "")
    monkeypatch.setattr("segpipe.package.compiling.BACKEND", failing)
    monkeypatch.setattr("segpipe.package.compiling.OPTIONS", None)
    run_training(small(data, tmp_path / "run", compile=True), "")
    assert same(weights(tmp_path / "eager"), weights(tmp_path / "run"))
    told = [line for line in (tmp_path / "run" / "log.txt").read_text().splitlines() if "compile" in line]
    assert [line.partition("WARNING ")[2] for line in told] == ["training.compile: the network is not compiled: RuntimeError: no compiler"]
    assert "whatsoever" not in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.usefixtures("compiler")
def test_a_run_in_code_that_was_built_leaves_what_an_eager_one_does_and_either_goes_on_as_the_other(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="segpipe")
    for name, before, after in (("eager", False, False), ("built", True, False), ("later", False, True)):
        for steps, built, resume in ((2, before, "never"), (4, after, "auto")):
            wanted = small(data, tmp_path / name, max_steps=steps, compile=built, resume=resume, precision="fp32")
            done = run_training(wanted, f"training: {{compile: {str(built).lower()}}}\n")
            assert done is not None and done.steps == steps
        assert ("the network is compiled" in (tmp_path / name / "log.txt").read_text()) == (before or after)
    expected = read_checkpoint(tmp_path / "eager" / "checkpoints" / "last.ckpt")["state_dict"]
    for name in ("built", "later"):
        found = read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"]
        assert list(found) == list(expected) and not any("_orig_mod" in key for key in found)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, atol=0.01, rtol=0.01)
        network = load_model(tmp_path / name / "model.ts").network
        assert network.state_dict().keys() == weights(tmp_path / name).keys()  # type: ignore[attr-defined]
