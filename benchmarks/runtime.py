"""Seconds a window of torch eager fp32, OpenVINO fp32 and OpenVINO bf16 on one network, in turns in one run.

    python benchmarks/runtime.py                          # the hippocampus' network (16 to 128 features, 40x56x40)
    python benchmarks/runtime.py --network large --repetitions 3     # six stages, 32 to 320 features, 128^3
    python benchmarks/runtime.py --network middle --compile --threads 1 --processor     # the same at 64^3, and in code of torch.compile

With --compile torch's weights are laid out for the processor, as `segpipe predict` has them, also in bf16, and beside them stands the same
compiled; the first run holds the compilation.

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
from torch import Tensor, nn

from segpipe.network.build import build_network
from segpipe.package.compiled_network import CompiledNetwork
from segpipe.package.openvino_network import from_torch, knows_bf16
from segpipe.package.precision import Compute, lay_out, on_windows
from segpipe.package.proof import label_dice, synthetic_case
from segpipe.package.torchscript import load_network, script_bytes
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan

Way = Callable[[Tensor], Tensor]
NETWORKS = {
    "small": ((16, 32, 64, 128), (40, 56, 40)),
    "middle": ((32, 64, 128, 256, 320, 320), (64, 64, 64)),
    "large": ((32, 64, 128, 256, 320, 320), (128, 128, 128)),
}


def make_plan(name: str) -> Plan:
    features, patch = NETWORKS[name]
    stages = len(features)
    network = NetworkPlan("unet", features, ((3, 3, 3),) * stages, ((1, 1, 1),) + ((2, 2, 2),) * (stages - 1), deep_supervision=True)
    labels = (Label(0, 0, "background"), Label(1, 1, "anterior"), Label(2, 2, "posterior"))
    return Plan(name, 3, (Channel("MR", "zscore"),), labels, True, (0, 1, 2), None, patch, 1, False, (True,) * 3, network)


def median_seconds(
    ways: dict[str, Way], window: Tensor, repetitions: int, clock: Callable[[], float]
) -> dict[str, tuple[float, float, Tensor]]:
    """Seconds of the first call (of the clock on the wall, with compilation), the median of the others, and the logits (N, i, j, k)."""
    firsts: dict[str, float] = {}
    logits: dict[str, Tensor] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for name, way in ways.items():
            start = time.perf_counter()
            logits[name] = way(window)[0].float().clone()
            firsts[name] = time.perf_counter() - start
        for _ in range(repetitions):
            for name, way in ways.items():
                start = clock()
                way(window)
                seconds[name].append(clock() - start)
    return {name: (firsts[name], statistics.median(seconds[name]), logits[name]) for name in ways}


def of_torch(script: nn.Module, scripted: Way, shape: tuple[int, ...]) -> dict[str, Way]:
    """Torch with its weights laid out, and the same compiled, in both precisions."""
    lay_out(script, 3, "cpu")
    ways: dict[str, Way] = {}
    for word, bf16 in (("fp32", False), ("bf16", True)):
        ways[f"torch laid out {word}"] = on_windows(scripted, 3, Compute("cpu", bf16))
        ways[f"compiled {word}"] = CompiledNetwork(script, shape, torch.device("cpu"), bf16)
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(NETWORKS), default="small")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    parser.add_argument("--compile", action="store_true", help="also torch as `segpipe predict` has it, and compiled")
    parser.add_argument("--processor", action="store_true", help="seconds of the processor, which other programs disturb least")
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
    ways: dict[str, Way] = {"torch eager fp32": network, "TorchScript fp32": scripted, "OpenVINO fp32": openvino}
    if knows_bf16():
        ways["OpenVINO bf16"] = openvino.in_bf16()
    if arguments.compile:
        ways |= of_torch(*load_network(script_bytes(network, {}), "cpu"), tuple(window.shape))
    clock = time.process_time if arguments.processor else time.perf_counter
    found = median_seconds(ways, window, arguments.repetitions, clock)
    _, reference, expected = found["torch eager fp32"]
    rows = []
    for name, (first, median, logits) in found.items():
        dice = min(label_dice(logits, expected, plan).values())
        rows.append({"way": name, "first_seconds": first, "median_seconds": median, "ratio": reference / median, "dice": dice})
    about = f"{arguments.network} network, window {plan.patch_size}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    print(about)
    print(f"{'':20s} {'first s':>8s} {'median s':>9s} {'ratio':>6s} {'Dice':>7s}")
    for row in rows:
        print(f"{row['way']:20s} {row['first_seconds']:8.2f} {row['median_seconds']:9.3f} {row['ratio']:6.2f} {row['dice']:7.4f}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump({"about": about, "rows": rows}, file, indent=2)


if __name__ == "__main__":
    main()
