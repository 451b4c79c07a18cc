"""One large CT-like volume through `segpipe predict`: wall time, peak memory, and the share of the time that is not the network.

    python benchmarks/volume.py --out volume [--classes 3 60] [--ensemble] [--shape 512 512 300] [--options "--runtime torch"] [--json FILE]

The volume: 512 x 512 x 300 voxels of 0.8 x 0.8 x 1.25 mm, a body of soft tissue with organs in it and air around it. The model: a 3D
U-Net of six stages, 32 to 320 features, on a grid of 1.5 mm, in windows of 128^3 that overlap by half, without mirroring. Its weights are
random (time and memory do not depend on them); with seed 0 the model file is the same on every machine. The peak is that of all
processes of the command, each at its own; `together_gb` is the most at one time, what they share counted once, as seen in samples.

With `--nnunet PYTHON` (of an environment that holds nnunetv2, see `against_nnunet.py`) its own network of the same stages, widths, windows
and grid segments the same volume right after, on a processor, without mirroring, with one process for reading and one for writing, as few
as it allows.

With `--ensemble` two small networks with different plans together, so that what happens around them shows: a 3D U-Net of three stages
on the same grid in windows of 64^3, and a 2D one on the scan's own slices in windows of 256^2, 8 to 32 features each.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from segpipe.geometry.grid import Grid, Volume
from segpipe.io.write import write_volume
from segpipe.network.build import build_network
from segpipe.package.export import export_model, export_parts
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan

SHAPE, SPACING_MM = (512, 512, 300), (0.8, 0.8, 1.25)
_AIR, _FAT, _SOFT = -1000.0, -80.0, 40.0
_ORGANS = 40


def ct_like(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """(I, J, K) Hounsfield units: an elliptic body with a rim of fat, ellipsoidal organs, and noise."""
    generator = np.random.default_rng(seed)
    i, j, k = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    radius = (i[:, None] / 0.85) ** 2 + (j[None, :] / 0.6) ** 2
    plane = np.where(radius < 1, np.where(radius < 0.85, _SOFT, _FAT), _AIR).astype(np.float32)
    volume = np.repeat(plane[:, :, None], shape[2], axis=2)
    for _ in range(_ORGANS):
        centre, size = generator.uniform(-0.5, 0.5, 3) * (1.2, 0.8, 1.8), generator.uniform(0.05, 0.2, 3)
        apart = (i[:, None, None] - centre[0]) ** 2 / size[0] ** 2 + (j[None, :, None] - centre[1]) ** 2 / size[1] ** 2
        volume[apart + (k[None, None, :] - centre[2]) ** 2 / size[2] ** 2 < 1] = generator.uniform(0, 200)
    for slab in range(shape[0]):
        volume[slab] += generator.normal(0, 12, shape[1:]).astype(np.float32)
    return volume.astype(np.int16)


def small_plans(classes: int) -> list[Plan]:
    """3D and 2D, of the second paragraph of the docstring."""
    plan, features = plan_of(classes), (8, 16, 32)
    solid = NetworkPlan("unet", features, ((3, 3, 3),) * 3, ((1, 1, 1), (2, 2, 2), (2, 2, 2)))
    flat = NetworkPlan("unet", features, ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)))
    return [
        replace(plan, patch_size=(64, 64, 64), network=solid),
        replace(plan, dims=2, patch_size=(256, 256, 1), spacing_mm=(*SPACING_MM[:2], 0.0), network=flat),
    ]


def plan_of(classes: int) -> Plan:
    """That of the table in the docstring."""
    return Plan(
        task=f"volume{classes}",
        dims=3,
        channels=(Channel("CT", "ct", -1000.0, 400.0, 0.0, 300.0),),
        labels=tuple(Label(index, index, f"structure {index}" if index else "background") for index in range(classes)),
        orient=True,
        axes=(0, 1, 2),
        spacing_mm=(1.5, 1.5, 1.5),
        patch_size=(128, 128, 128),
        batch_size=2,
        nonzero=False,
        flips=(True, True, True),
        network=NetworkPlan("unet", (32, 64, 128, 256, 320, 320), ((3, 3, 3),) * 6, ((1, 1, 1), *((2, 2, 2),) * 5)),
    )


def run(words: list[str]) -> dict[str, float]:
    """Seconds of a command, and memory (GB) of it and its workers: each at its own peak, and the most that was seen of all at one time."""
    begun = time.perf_counter()
    peaks: dict[int, float] = {}
    together = 0.0
    process = psutil.Popen(words)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            family = (process, *process.children(recursive=True))
            for one in family:
                peaks[one.pid] = max(peaks.get(one.pid, 0.0), highest_gb(one.pid))
            together = max(together, sum(one.memory_full_info().pss for one in family) / 1e9)
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{words[:4]} ended with {process.returncode}")
    return {"seconds": time.perf_counter() - begun, "peak_gb": sum(peaks.values()), "together_gb": together}


def highest_gb(pid: int) -> float:
    """Highest resident memory of a process until now, by the system's own count."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    return 0.0


def measure(classes: int, ensemble: bool, out: Path, options: list[str]) -> dict[str, Any]:
    plans, name = (small_plans(classes), f"ensemble{classes}") if ensemble else ([plan_of(classes)], f"volume{classes}")
    model, place = out / f"{name}.ts", out / f"labels_{name}"
    if not model.exists():
        torch.manual_seed(0)
        networks = [build_network(plan.network, 1, classes, plan.dims) for plan in plans]
        if ensemble:
            export_parts(list(zip(networks, plans, strict=True)), {}, model)
        else:
            export_model(networks[0], plans[0], {}, model)
    words = [sys.executable, "-m", "segpipe", "predict", str(model), str(out / "scan.nii"), str(place), "--overwrite", *options]
    result: dict[str, Any] = {"classes": classes, "ensemble": ensemble, "options": options, **run(words)}
    with (place / "predictions.csv").open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    phases = {key.removeprefix("seconds_"): float(value) for key, value in row.items() if key.startswith("seconds_") and value}
    return result | {"phases": phases, "outside_network": 1 - phases["network"] / sum(phases.values())}


NNUNET_CHECKPOINT = """
import json, sys
from pathlib import Path
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

folder = Path(sys.argv[1])
plans = PlansManager(json.loads((folder / "plans.json").read_text()))
configuration = plans.get_configuration("3d_fullres")
torch.manual_seed(0)
outputs = plans.get_label_manager(json.loads((folder / "dataset.json").read_text())).num_segmentation_heads
network = nnUNetTrainer.build_network_architecture(plans, configuration, 1, outputs, enable_deep_supervision=False)
checkpoint = {"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer", "init_args": {"configuration": "3d_fullres"}}
(folder / "fold_0").mkdir(exist_ok=True)
torch.save(checkpoint | {"inference_allowed_mirroring_axes": (0, 1, 2)}, folder / "fold_0" / "checkpoint_final.pth")
"""


def nnunet_files(classes: int) -> dict[str, dict[str, Any]]:
    """The files in which nnU-Net keeps what `plan_of` says."""
    plan = plan_of(classes)
    network, channel = plan.network, plan.channels[0]
    resampling = "resample_data_or_seg_to_shape"
    data, labels = ({"is_seg": seg, "order": order, "order_z": 0, "force_separate_z": None} for seg, order in ((False, 3), (True, 1)))
    architecture = {
        "n_stages": len(network.features),
        "features_per_stage": network.features,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": network.kernels,
        "strides": network.strides,
        "n_conv_per_stage": [2] * len(network.features),
        "n_conv_per_stage_decoder": [2] * (len(network.features) - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan.batch_size,
        "patch_size": plan.patch_size,
        "median_image_size_in_voxels": plan.patch_size,
        "spacing": plan.spacing_mm,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": resampling,
        "resampling_fn_seg": resampling,
        "resampling_fn_probabilities": resampling,
        "resampling_fn_data_kwargs": data,
        "resampling_fn_seg_kwargs": labels,
        "resampling_fn_probabilities_kwargs": labels | {"is_seg": False},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": architecture,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    values = {"max": 3000.0, "median": 0.0, "min": -1024.0, "mean": channel.mean, "std": channel.std}
    plans = {
        "dataset_name": "Dataset900_Volume",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": plan.spacing_mm,
        "original_median_shape_after_transp": plan.patch_size,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": values | {"percentile_00_5": channel.lower, "percentile_99_5": channel.upper}},
    }
    names = {label.name: label.value for label in plan.labels}
    dataset = {"channel_names": {"0": "CT"}, "labels": names, "numTraining": 1, "file_ending": ".nii"}
    return {"plans.json": plans, "dataset.json": dataset}


def measure_nnunet(interpreter: Path, classes: int, out: Path) -> dict[str, Any]:
    """The same volume through `nnUNetv2_predict_from_modelfolder`."""
    folder, scans = out / f"nnunet{classes}", out / "nnunet_scans"
    for place in (folder, scans):
        place.mkdir(exist_ok=True)
    for name, values in nnunet_files(classes).items():
        (folder / name).write_text(json.dumps(values))
    link = scans / "scan_0000.nii"
    if not link.exists():
        link.symlink_to((out / "scan.nii").resolve())
    subprocess.run([str(interpreter), "-c", NNUNET_CHECKPOINT, str(folder)], check=True, stdout=subprocess.DEVNULL)
    command = str(interpreter.parent / "nnUNetv2_predict_from_modelfolder")
    options = ["--disable_tta", "-f", "0", "-npp", "1", "-nps", "1", "-device", "cpu", "--disable_progress_bar"]
    words = [command, "-i", str(scans), "-o", str(out / f"nnunet_labels{classes}"), "-m", str(folder), *options]
    return {"classes": classes, "program": "nnU-Net", **run(words)}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("volume"), help="folder for scan, models and results")
    parser.add_argument("--classes", type=int, nargs="*", default=[3, 60])
    parser.add_argument("--ensemble", action="store_true", help="two small networks with different plans")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, help="voxels of the volume")
    parser.add_argument("--options", default="", help="further options of segpipe predict, in one text")
    parser.add_argument("--nnunet", type=Path, help="python of the environment that holds nnunetv2")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    scan = options.out / "scan.nii"
    if not scan.exists():
        affine = np.diag([*SPACING_MM, 1.0])
        shape = tuple(options.shape)
        write_volume(scan, Volume(ct_like(shape)[None], Grid(shape, affine)))
    results = [measure(classes, options.ensemble, options.out, options.options.split()) for classes in options.classes]
    if options.nnunet:
        results += [measure_nnunet(options.nnunet, classes, options.out) for classes in options.classes]
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
