"""Seconds a window of torch eager fp32, OpenVINO fp32 and OpenVINO bf16 on one network, one after the other in one run.

    python benchmarks/runtime.py                          # the hippocampus' network (16 to 128 features, 40x56x40)
    python benchmarks/runtime.py --network large --repetitions 3     # six stages, 32 to 320 features, 128^3

Medians after one run each to warm up, the ratio to eager fp32, and the Dice of the label map against eager fp32 (worst label). Weights are
random, which is the worst case for the Dice: a trained network has few voxels between two labels.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from segpipe.network.build import build_network
from segpipe.package.openvino_network import from_torch, knows_bf16
from segpipe.package.proof import label_dice, synthetic_case
from segpipe.package.torchscript import load_network, script_bytes
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan

NETWORKS = {
    "small": ((16, 32, 64, 128), (40, 56, 40)),
    "large": ((32, 64, 128, 256, 320, 320), (128, 128, 128)),
}


def make_plan(name: str) -> Plan:
    features, patch = NETWORKS[name]
    stages = len(features)
    network = NetworkPlan("unet", features, ((3, 3, 3),) * stages, ((1, 1, 1),) + ((2, 2, 2),) * (stages - 1), deep_supervision=True)
    labels = (Label(0, 0, "background"), Label(1, 1, "anterior"), Label(2, 2, "posterior"))
    return Plan(name, 3, (Channel("MR", "zscore"),), labels, True, (0, 1, 2), None, patch, 1, False, (True,) * 3, network)


def median_seconds(network: Callable[[Tensor], Tensor], window: Tensor, repetitions: int) -> tuple[float, float, Tensor]:
    """Seconds of the first call (with compilation), the median of the others, and the logits (N, i, j, k)."""
    seconds = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        with torch.inference_mode():
            logits = network(window)
        seconds.append(time.perf_counter() - start)
    return seconds[0], statistics.median(seconds[1:]), logits[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(NETWORKS), default="small")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    parser.add_argument("--json", default="", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    plan = make_plan(arguments.network)
    network = build_network(plan.network, 1, plan.outputs, 3).eval()
    window = synthetic_case(plan).image.unsqueeze(0)
    script, scripted = load_network(script_bytes(network, {}), "cpu")
    openvino = from_torch(script)
    ways: dict[str, Callable[[Tensor], Tensor]] = {"torch eager fp32": network, "TorchScript fp32": scripted, "OpenVINO fp32": openvino}
    if knows_bf16():
        ways["OpenVINO bf16"] = openvino.in_bf16()
    found = {name: median_seconds(way, window, arguments.repetitions) for name, way in ways.items()}
    _, reference, expected = found["torch eager fp32"]
    rows = []
    for name, (first, median, logits) in found.items():
        dice = min(label_dice(logits, expected, plan).values())
        rows.append({"way": name, "first_seconds": first, "median_seconds": median, "ratio": reference / median, "dice": dice})
    about = f"{arguments.network} network, window {plan.patch_size}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    print(about)
    print(f"{'':18s} {'first s':>8s} {'median s':>9s} {'ratio':>6s} {'Dice':>7s}")
    for row in rows:
        print(f"{row['way']:18s} {row['first_seconds']:8.2f} {row['median_seconds']:9.3f} {row['ratio']:6.2f} {row['dice']:7.4f}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump({"about": about, "rows": rows}, file, indent=2)


if __name__ == "__main__":
    main()
