"""nnU-Net given the same time on the same machine: how many held-out cases each side segments better, paired.

    python3.11 -m venv nnunet && nnunet/bin/pip install torch==2.13.0 nnunetv2        # an environment of its own
    python benchmarks/real_scans.py hippocampus-unet3d --minutes 28 --out results
    python benchmarks/duel.py --nnunet nnunet/bin/python --run results/hippocampus-unet3d --ours results/hippocampus-unet3d-held_out/out \\
        --minutes 30 --out duel

nnU-Net's side: its own planner, preprocessor, augmentation, trainer and loss on the cases that the run trained with, all of them (fold
`all`), two threads and one worker for augmentation. Its schedule (polynomial decay to zero) is shortened so that planning, preprocessing
and training end with the budget, after a few steps that measure its speed and are thrown away. Prediction is `nnUNetv2_predict` as it
comes, with mirroring and without; its time is not part of the budget, as ours is not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.evaluation.bootstrap import mean_interval

DATA = Path(os.environ.get("SEGPIPE_DATA", "../shared/data")) / "Task04_Hippocampus"
DATASET = "Dataset004_Hippocampus"

TRAIN = """
import json, sys, time
begun = time.time()
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

STEPS, PROBE, SPARE = 10, 6, 10.0

def trainer_of():
    folder = str(nnUNet_preprocessed) + "/DATASET"
    plans = json.load(open(folder + "/nnUNetPlans.json"))
    plans["continue_training"] = False  # as its command sets it
    made = nnUNetTrainer(plans, "3d_fullres", "all", json.load(open(folder + "/dataset.json")), device=torch.device("cpu"))
    made.num_iterations_per_epoch, made.num_val_iterations_per_epoch = STEPS, 1
    return made

def main(seconds, result):
    torch.set_num_threads(2)
    extract_fingerprints([4], num_processes=2, show_progress_bar=False)
    plan_experiments([4])
    preprocess([4], configurations=("3d_fullres",), num_processes=(2,), show_progress_bar=False)
    prepared = time.time() - begun
    probe = trainer_of()
    probe.initialize()
    probe.on_train_start()
    probe.on_epoch_start()
    probe.on_train_epoch_start()
    taken = []
    for _ in range(PROBE):
        start = time.time()
        probe.train_step(next(probe.dataloader_train))
        taken.append(time.time() - start)
    step = sorted(taken)[PROBE // 2]
    del probe
    trainer = trainer_of()
    validation_share = 0.1 / 3  # one validation step, forward only, an epoch
    trainer.num_epochs = max(1, int((seconds - SPARE - (time.time() - begun)) / (step * STEPS * (1 + validation_share))))
    trainer.run_training()
    told = {"prepare": prepared, "probe_step": step, "steps": STEPS * trainer.num_epochs, "seconds": time.time() - begun}
    json.dump(told, open(result, "w"))

if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
    sys.stdout.flush()
    import os
    os._exit(0)  # its loader's worker would wait for ever
"""


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, required=True, help="python of the environment that holds nnunetv2")
    parser.add_argument("--run", type=Path, required=True, help="run folder, whose split is used")
    parser.add_argument("--ours", type=Path, required=True, help="its label maps of the held-out cases")
    parser.add_argument("--minutes", type=float, default=30.0, help="nnU-Net's budget")
    parser.add_argument("--out", type=Path, default=Path("duel"), help="folder for nnU-Net's files and the scores")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    environment = environment_of(out)
    split = json.loads(next(iter([*options.run.glob("splits.json"), *options.run.glob("*/splits.json")])).read_text())
    told = out / "nnunet.json"
    if not told.exists():
        lay_out(out, split)
        script = out / "train.py"
        script.write_text(TRAIN.replace("DATASET", DATASET))
        run([options.nnunet, script, 60 * options.minutes, told], environment, out / "train.log")
    figures: dict[str, Any] = {"nnunet": json.loads(told.read_text())}
    ours = scores(options.ours, out / "ours.json")
    for name, words in {"mirrored": [], "plain": ["--disable_tta"]}.items():
        place = out / name
        begun = time.perf_counter()
        command = [options.nnunet.parent / "nnUNetv2_predict", "-i", out / "held_out", "-o", place, "-d", "4", "-c", "3d_fullres"]
        run([*command, "-f", "all", "-device", "cpu", "-npp", "1", "-nps", "1", *words], environment, out / f"{name}.log")
        figures[name] = {"predict_seconds": time.perf_counter() - begun, **compared(ours, scores(place, out / f"{name}.json"))}
    print(json.dumps(figures, indent=1))
    (out / "duel.json").write_text(json.dumps(figures, indent=1))


def environment_of(out: Path) -> dict[str, str]:
    """Two threads, and nnU-Net's folders below `out`."""
    places = {f"nnUNet_{name}": str(out / name) for name in ("raw", "preprocessed", "results")}
    return os.environ | places | {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "f", "OMP_NUM_THREADS": "2"}


def lay_out(out: Path, split: dict[str, Any]) -> None:
    """The training cases as nnU-Net wants them, and the held-out scans."""
    raw, held_out = out / "raw" / DATASET, out / "held_out"
    for folder in (out / "raw", out / "preprocessed", held_out):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (raw / "imagesTr", raw / "labelsTr", held_out):
        folder.mkdir(parents=True)
    for case in split["train"]:
        (raw / "imagesTr" / f"{case}_0000.nii.gz").symlink_to((DATA / "imagesTr" / f"{case}.nii.gz").resolve())
        (raw / "labelsTr" / f"{case}.nii.gz").symlink_to((DATA / "labelsTr" / f"{case}.nii.gz").resolve())
    for case in split["validation"]:
        (held_out / f"{case}_0000.nii.gz").symlink_to((DATA / "imagesTr" / f"{case}.nii.gz").resolve())
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    described = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": len(split["train"]), "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(described))


def run(words: list[object], environment: dict[str, str], log: Path) -> None:
    """Run a command; what it says goes into `log`."""
    with log.open("w") as text:
        code = subprocess.run([str(word) for word in words], env=environment, stdout=text, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise SystemExit(f"{words[0]} ended with {code}; see {log}")


def scores(folder: Path, to: Path) -> dict[str, float]:
    """Mean Dice of the labels of each case, by `segpipe evaluate`."""
    words = [sys.executable, "-m", "segpipe", "evaluate", folder, DATA / "labelsTr", "--json", to, "--allow-missing"]
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, list[float]] = {}
    for row in json.loads(to.read_text())["cases"]:
        found.setdefault(row["case"], []).append(row["dice"])
    return {case: float(np.mean(values)) for case, values in found.items()}


def compared(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    """Means, the share of cases on which we are higher, and the mean difference with its 95 % interval."""
    if set(ours) != set(theirs):
        raise SystemExit(f"the two sides have other cases: {sorted(set(ours) ^ set(theirs))[:3]}")
    differences = [ours[case] - theirs[case] for case in sorted(ours)]
    return {
        "cases": len(differences),
        "ours": float(np.mean(list(ours.values()))),
        "theirs": float(np.mean(list(theirs.values()))),
        "higher": float(np.mean([difference > 0 for difference in differences])),
        "difference": float(np.mean(differences)),
        "interval": mean_interval(differences),
    }


if __name__ == "__main__":
    main()
