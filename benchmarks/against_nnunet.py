"""segpipe beside nnU-Net at nnU-Net's own plan, in one run: preparation, steps a second, peak memory.

    python3.11 -m venv nnunet && nnunet/bin/pip install torch==2.13.0 nnunetv2        # an environment of its own
    python benchmarks/against_nnunet.py --nnunet nnunet/bin/python --out against_nnunet [--steps 12] [--json FILE]

The data set is MSD Task04 (`SEGPIPE_DATA`, default ../shared/data). Both sides have two threads, full augmentation, deep supervision, the
same patch, batch and features (`plan.rules=nnunet`), and load their own data. nnU-Net's side calls its own planner, preprocessor,
trainer and loader; it has one worker for augmentation, segpipe none. The first two steps are not counted. nnU-Net computes in
float32 on a processor and offers nothing else; segpipe in bf16 where the processor is fast at it, as by default, and in float32.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch

DATA = Path(os.environ.get("SEGPIPE_DATA", "../shared/data")) / "Task04_Hippocampus"
DATASET = "Dataset004_Hippocampus"
THREADS = 2

NNUNET = """
import json, sys, time
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

def main(steps, result):
    torch.set_num_threads(2)
    begun = time.perf_counter()
    extract_fingerprints([4], num_processes=2, show_progress_bar=False)
    plan_experiments([4])
    preprocess([4], configurations=("3d_fullres",), num_processes=(2,), show_progress_bar=False)
    prepared = time.perf_counter() - begun
    folder = str(nnUNet_preprocessed) + "/DATASET"
    plans = json.load(open(folder + "/nnUNetPlans.json"))
    plans["continue_training"] = False  # as its command sets it
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, json.load(open(folder + "/dataset.json")), device=torch.device("cpu"))
    trainer.initialize()
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    taken = []
    for _ in range(steps + 2):
        begun = time.perf_counter()
        trainer.train_step(next(trainer.dataloader_train))
        taken.append(time.perf_counter() - begun)
    plan = plans["configurations"]["3d_fullres"]
    features = plan["architecture"]["arch_kwargs"]["features_per_stage"]
    json.dump(
        {"prepare": prepared, "steps": taken[2:], "patch": plan["patch_size"], "batch": plan["batch_size"], "features": features},
        open(result, "w"),
    )

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
    sys.stdout.flush()
    import os
    os._exit(0)  # its loader's worker would wait for ever
"""

SEGPIPE_PREPARE = """
import sys, time
from pathlib import Path
import torch
from segpipe.plan.planner import make_plan
from segpipe.settings import DatasetSettings, PlanSettings, Settings
from segpipe.training.data import prepare_cases
from segpipe.training.survey import survey

torch.set_num_threads(2)
begun = time.perf_counter()
settings = Settings(dataset=DatasetSettings(root=sys.argv[1]), plan=PlanSettings(rules="nnunet"))
cases, fingerprint = survey(settings)
plan = make_plan("bench", fingerprint, settings)
prepare_cases(cases, plan, 2, 100.0, Path(sys.argv[2]))
print(time.perf_counter() - begun)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, required=True, help="python of the environment that holds nnunetv2")
    parser.add_argument("--out", type=Path, default=Path("against_nnunet"), help="folder for both sides' files")
    parser.add_argument("--steps", type=int, default=12, help="steps of nnU-Net that count (default 12); segpipe takes three times as many")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    theirs = nnunet(options.nnunet, options.out.resolve(), options.steps)
    ours = {precision: segpipe(options.out.resolve(), 3 * options.steps, precision) for precision in ("auto", "fp32")}
    prepared = float(python(sys.executable, SEGPIPE_PREPARE, DATA, options.out / "cache").split()[-1])
    step = sum(theirs["steps"]) / len(theirs["steps"])
    machine = {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), "threads": THREADS}
    figures = {
        "machine": machine,
        "nnunet": theirs,
        "segpipe": ours,
        "segpipe_prepare": prepared,
        "prepare_ratio": prepared / theirs["prepare"],
    }
    print(f"plan: patch {theirs['patch']}, batch {theirs['batch']}, features {theirs['features']}")
    print(f"{'':18} {'s a step':>9} {'x nnU-Net':>10} {'peak GB':>8}")
    print(f"{'nnU-Net':18} {step:9.3f} {1.0:10.2f} {theirs['peak_gb']:8.2f}")
    for precision, run in ours.items():
        print(f"{'segpipe ' + precision:18} {run['step']:9.3f} {step / run['step']:10.2f} {run['peak_gb']:8.2f}")
    print(f"prepare all cases: nnU-Net {theirs['prepare']:.1f} s, segpipe {prepared:.1f} s")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def nnunet(interpreter: Path, out: Path, steps: int) -> dict[str, Any]:
    """Its own planner, preprocessor, loader and trainer."""
    raw = out / "raw" / DATASET
    shutil.rmtree(out / "raw", ignore_errors=True)
    shutil.rmtree(out / "preprocessed", ignore_errors=True)
    for folder, suffix in (("imagesTr", "_0000"), ("labelsTr", "")):
        (raw / folder).mkdir(parents=True)
        for path in sorted((DATA / folder).glob("[!.]*.nii.gz")):
            (raw / folder / path.name.replace(".nii.gz", f"{suffix}.nii.gz")).symlink_to(path.resolve())
    cases = len(list((raw / "labelsTr").iterdir()))
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    described = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(described))
    script, result = out / "nnunet_side.py", out / "nnunet.json"
    script.write_text(NNUNET.replace("DATASET", DATASET))
    places = {f"nnUNet_{name}": str(out / name) for name in ("raw", "preprocessed", "results")}
    environment = os.environ | places | {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "f", "OMP_NUM_THREADS": str(THREADS)}
    peak = watched([str(interpreter), str(script), str(steps), str(result)], environment, out / "nnunet.log")
    return {**json.loads(result.read_text()), "peak_gb": peak}


def segpipe(out: Path, steps: int, precision: str) -> dict[str, float]:
    """The command that a user types; the rate is that of its metrics.csv after the first row."""
    run = out / f"segpipe_{precision}"
    shutil.rmtree(run, ignore_errors=True)
    words = [
        "conf=hippocampus",
        f"dataset.root={DATA}",
        f"run_dir={run}",
        "plan.rules=nnunet",
        "plan.flips=[true,true,true]",
        "augment=full",
    ]
    words += [f"training.max_steps={steps}", f"training.precision={precision}", f"training.validate_steps={steps}", "device=cpu"]
    words += [f"threads={THREADS}", "training.validate_cases=1", "dataset.validation_cases=[hippocampus_001]", "dataset.label_names={}"]
    peak = watched([sys.executable, "-m", "segpipe", "train", *words], dict(os.environ), out / f"segpipe_{precision}.log")
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["loss"]]
    first, last = rows[0], rows[-1]
    return {"step": (float(last["seconds"]) - float(first["seconds"])) / (int(last["step"]) - int(first["step"])), "peak_gb": peak}


def watched(words: list[str], environment: dict[str, str], log: Path) -> float:
    """Run a command to its end; the largest memory of it and its children together, in GB (shared pages counted once)."""
    with log.open("w") as text:
        process = psutil.Popen(words, env=environment, stdout=text, stderr=subprocess.STDOUT)
        peak, done = [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(0.5):
                peak[0] = max(peak[0], proportional_gb(process))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
        done.set()
        watcher.join()
    if code:
        raise SystemExit(f"{' '.join(words[:4])} ... ended with {code}; see {log}")
    return peak[0]


def proportional_gb(process: psutil.Process) -> float:
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_full_info().pss
    except psutil.NoSuchProcess:
        return 0.0
    return total / 1e9


def python(interpreter: str, script: str, *words: object) -> str:
    return subprocess.run([interpreter, "-c", script, *map(str, words)], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s in all")
