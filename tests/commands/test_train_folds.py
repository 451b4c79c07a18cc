"""`segpipe train folds=all` through the installed command: every case is held out once, and one file does what all folds do together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from segpipe.dataset.phantom import write_phantom
from segpipe.folds.members import Ledger, Member
from segpipe.inference.postprocess import apply_rules, rules_of
from segpipe.inference.thresholds import KEY
from segpipe.io.read import read_volume
from segpipe.package.model_file import DOCUMENT, document_text, load_model, load_models
from segpipe.package.torchscript import script_bytes
from segpipe.training.checkpoint import network_weights
from tests.conftest import Run

WORDS = [
    *("name=tiny", "plan.patch_size=[16,16,8]", "plan.batch_size=2", "network.features=[4,8]", "network.stages=2", "training.lr=1e-2"),
    *("training.overlays=0", "augment=none", "device=cpu", "seed=7", "training.max_steps=40", "threads=1"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_phantom(folder, "prostate", cases=4, seed=3, size="small")
    return folder


def segpipe(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "segpipe", *map(str, words)], capture_output=True, text=True, timeout=400)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cross-validation of two folds, and what it printed."""
    folder = tmp_path_factory.mktemp("folds") / "run"
    done = segpipe("train", *WORDS, f"dataset.root={data}", f"run_dir={folder}", "folds=all", "dataset.folds=2")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_every_case_is_held_out_once_and_scored(data: Path, run: tuple[Path, str]) -> None:
    folder, printed = run
    names = sorted(path.name for path in (data / "labels").iterdir())
    assert sorted(path.name for path in (folder / "out_of_fold").glob("*.nii.gz")) == names
    held = [json.loads((folder / f"fold_{fold}/splits.json").read_text())["validation"] for fold in (0, 1)]
    assert sorted(held[0] + held[1]) == [name.removesuffix(".nii.gz") for name in names]
    scores = json.loads((folder / "cross_validation.json").read_text())
    assert sorted({row["case"] for row in scores["cases"]}) == sorted(held[0] + held[1])
    assert [row["member"] for row in scores["members"]] == ["fold_0", "fold_1"]
    validated = []
    for fold in (0, 1):
        for row in json.loads((folder / f"fold_{fold}/validation.json").read_text())["each"]:
            own = float(np.mean(list(row["dice"].values())))
            validated.append(own)
            dice = [one["dice"] for one in scores["cases"] if one["case"] == row["case"]]
            assert np.nanmean([np.nan if d is None else d for d in dice]) > own - 0.1  # thresholds and rules may move it up by more
    # what was there before any choice: the file's labels on the scan's grid, against the training's on the network's
    assert scores["thresholds"][0]["before"] == pytest.approx(np.mean(validated), abs=0.03)
    assert [one["output"] for one in scores["thresholds"]] == label_names(folder)
    assert "largest component" in printed and "Thresholds: " in printed and "the mean of 2 networks" in printed


def label_names(folder: Path) -> list[str]:
    return [label["name"] for label in json.loads((folder / "plan.json").read_text())["labels"][1:]]


def test_the_folds_share_one_plan(run: tuple[Path, str]) -> None:
    plans = [json.loads((run[0] / place / "plan.json").read_text()) for place in (".", "fold_0", "fold_1")]
    assert plans[0] == plans[1] == plans[2]


def test_a_fold_is_what_a_single_training_of_it_is(data: Path, run: tuple[Path, str], tmp_path: Path, forked: Run) -> None:
    alone = forked(
        "train", *WORDS, f"dataset.root={data}", f"run_dir={tmp_path / 'one'}", "dataset.split=folds", "dataset.folds=2", "dataset.fold=1"
    )
    assert alone.returncode == 0, alone.stderr
    one, two = (network_weights(root / "checkpoints/last.ckpt") for root in (tmp_path / "one", run[0] / "fold_1"))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_one_file_does_what_the_folds_do_together(data: Path, run: tuple[Path, str], tmp_path: Path) -> None:
    folder = run[0]
    assert segpipe("predict", folder / "model.ts", data / "images", tmp_path / "one").returncode == 0
    model = load_model(folder / "model.ts")
    for fold in (0, 1):  # with what was chosen for them together
        own = load_model(folder / f"fold_{fold}/model.ts")
        told = own.document | {KEY: model.document.get(KEY, [])}
        (tmp_path / f"{fold}.ts").write_bytes(script_bytes(torch.jit.load(own.path), {DOCUMENT: document_text(told)}))
    assert segpipe("predict", tmp_path / "0.ts", tmp_path / "1.ts", data / "images", tmp_path / "two").returncode == 0
    values = np.array([label.value for label in model.plan.labels])
    rules = rules_of(model.document, model.plan.classes)
    for path in (tmp_path / "two").glob("*.nii.gz"):
        together, single = read_volume(path), read_volume(tmp_path / "one" / path.name)
        clean = values[apply_rules(np.searchsorted(values, together.array[0]), rules, together.grid.voxel_volume_ml)]
        assert (clean != single.array[0]).mean() < 2e-3  # the logarithm of a mean is blended, not the logits themselves
    assert model.document["training"]["members"] == 2
    assert model.document["metrics"]["cases"] == 4


def test_a_second_call_is_refused_or_goes_on(data: Path, run: tuple[Path, str], forked: Run) -> None:
    folder = run[0]
    words = ["train", *WORDS, f"dataset.root={data}", f"run_dir={folder}", "folds=all", "dataset.folds=2"]
    again = forked(*words)
    assert again.returncode == 2 and "holds folds already" in again.stderr and len(again.stderr.strip().splitlines()) == 1
    other = forked(*words, "training.resume=auto", "training.lr=2e-2")
    assert other.returncode == 2 and "training.lr is 0.02, but the run" in other.stderr
    before = (folder / "fold_0/model.ts").stat().st_mtime_ns
    done = forked(*words, "training.resume=auto")
    assert done.returncode == 0 and "2 of 2 trainings are done already" in done.stderr
    assert (folder / "fold_0/model.ts").stat().st_mtime_ns == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_cross_validation_goes_on_where_it_was(data: Path, tmp_path: Path, number: signal.Signals, forked: Run) -> None:
    folder = tmp_path / "run"
    words = [*("train", *WORDS), f"dataset.root={data}", f"run_dir={folder}", "folds=all", "dataset.folds=2", "training.max_steps=400"]
    process = subprocess.Popen([sys.executable, "-m", "segpipe", *words], stderr=subprocess.PIPE, text=True, start_new_session=True)
    metrics = folder / "fold_0/metrics.csv"
    for _ in range(1800):
        if metrics.exists() and len(metrics.read_text().splitlines()) > 1:
            break
        time.sleep(0.1)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: every process of the group
    else:
        process.send_signal(number)  # as a job scheduler may do: the first process alone
    _, told = process.communicate(timeout=200)
    assert process.returncode == 128 + number, told
    assert not Ledger(folder).is_done(Member(0, 7, "fold_0"), folder) and (folder / "fold_0/model.ts").exists()
    assert not (folder / "fold_1").exists()
    if number == signal.SIGTERM:
        return
    done = forked(*words, "training.resume=auto", "training.max_steps=60")
    assert done.returncode == 0, done.stderr
    assert (folder / "model.ts").exists()


def test_seeds_report_their_spread_on_one_split(data: Path, tmp_path: Path, forked: Run) -> None:
    done = forked("train", *WORDS, f"dataset.root={data}", f"run_dir={tmp_path / 'run'}", "training.seeds=2", "training.max_steps=10")
    assert done.returncode == 0, done.stderr
    splits = [json.loads((tmp_path / f"run/seed_{seed}/splits.json").read_text()) for seed in (7, 8)]
    assert splits[0]["validation"] == splits[1]["validation"]
    one, two = (network_weights(tmp_path / f"run/seed_{seed}/checkpoints/last.ckpt") for seed in (7, 8))
    assert not torch.equal(one["heads.0.weight"], two["heads.0.weight"])
    assert "mean and standard deviation" in done.stdout and "+-" in done.stdout


def test_the_better_of_two_configurations_becomes_the_model(data: Path, tmp_path: Path, forked: Run) -> None:
    words = ("train", *WORDS, f"dataset.root={data}", f"run_dir={tmp_path / 'run'}", "training.max_steps=10", "configurations=[3d,2d]")
    done = forked(*words)
    assert done.returncode == 0, done.stderr
    plans = [json.loads((tmp_path / "run" / place).read_text()) for place in ("plan_3d.json", "plan_2d.json", "2d/plan.json")]
    assert [plan["dims"] for plan in plans] == [3, 2, 2]
    told = json.loads((tmp_path / "run/cross_validation.json").read_text())["configurations"]
    assert [one["name"] for one in told] == ["3d", "2d", "3d + 2d"]
    taken = next(one["name"] for one in told if one["taken"])
    models = load_models(tmp_path / "run/model.ts")
    assert [model.plan.dims for model in models] == {"3d": [3], "2d": [2], "3d + 2d": [3, 2]}[taken]
    assert "Configurations: Dice on what they held out" in done.stdout
    assert segpipe("predict", tmp_path / "run/model.ts", data / "images", tmp_path / "out").returncode == 0
    again = forked(*words, "training.resume=auto")
    assert again.returncode == 0 and "2 of 2 trainings are done already" in again.stderr


def test_a_package_of_it_has_the_intervals_and_the_time_of_all_trainings(data: Path, run: tuple[Path, str], tmp_path: Path) -> None:
    """Its figures are those of the cross-validation, and of no single training."""
    card = dict.fromkeys(("title", "summary", "body_part", "intended_use"), "x") | {"name": "tiny", "version": "1.0", "modality": "MR"}
    card |= {"authors": ["A. Author"], "licences": {"code": "MIT", "weights": "MIT", "samples": "CC0-1.0"}}
    (tmp_path / "card.yaml").write_text(json.dumps(card))  # which YAML can read
    scan = next((data / "images").iterdir())
    made = segpipe("package", run[0], "--card", tmp_path / "card.yaml", "--samples", scan, "--out", tmp_path / "tiny", "--device", "cpu")
    assert made.returncode == 0, made.stderr
    document = json.loads((tmp_path / "tiny" / "segpipe.json").read_text())
    scores = json.loads((run[0] / "cross_validation.json").read_text())
    for value, name in scores["labels"].items():
        told, found = scores["summary"][value]["dice"], document["metrics"]["dice"][name]
        assert (found["mean"], [found["low"], found["high"]], found["cases"]) == (told["mean"], told["ci95"], told["n"])
    seconds = [json.loads((run[0] / f"fold_{fold}/schedule.json").read_text())["seconds"] for fold in (0, 1)]
    training = document["provenance"]["training"]
    assert (training["steps"], training["members"]) == (80, 2)
    assert training["seconds"] == pytest.approx(sum(seconds), abs=0.01)
    assert training["partition"] == {"train": 4, "validation": 4, "held_out": True}
    assert yaml.safe_load(document["provenance"]["config"])["folds"] == "all"
    assert document["envelope"]["field_of_view_mm"] is not None
    words = "Validated on 4 case(s), each by the networks that were not trained on it"
    assert words in made.stdout
    assert words in segpipe("describe", tmp_path / "tiny").stdout
    assert "It took 80 optimiser step(s) for 2 networks: it is hardly trained." in made.stdout
