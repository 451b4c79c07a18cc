"""Forward and backward pass of segpipe's networks against MONAI's at the same widths, in one run, turn by turn.

Prints a table and, with `--json FILE`, writes it. Times are processor seconds of one thread by default, which other programs on
the machine disturb least; `--wall` takes the clock's seconds and `--threads N` uses N threads.

    python benchmarks/network_step.py --json step.json

With `--compile` segpipe's networks, deep supervision included, are compared with themselves in code of torch.compile: medians in turns, and
what compiling takes, in seconds of the clock and of the processor.

    python benchmarks/network_step.py --compile --only 16-128
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DynUNet
from monai.networks.nets import VNet as MonaiVNet
from torch import Tensor, nn

from segpipe.network.blocks import initialise
from segpipe.network.build import build_network
from segpipe.network.segmenter import Segmenter
from segpipe.network.vnet import VNet
from segpipe.package.compiling import compiled
from segpipe.plan.plan import NetworkPlan

CLASSES = 3


def plan(name: str, features: tuple[int, ...], dims: int, kernel: int, norm: str = "instance") -> NetworkPlan:
    stages = len(features)
    strides = ((1,) * dims,) + ((2,) * dims,) * (stages - 1)
    return NetworkPlan(name, features, ((kernel,) * dims,) * stages, strides, norm=norm)


def dynunet(spec: NetworkPlan) -> nn.Module:
    """MONAI's, with the layers of ours."""
    dims = len(spec.strides[0])
    norm = ("INSTANCE", {"affine": True})
    net: nn.Module = DynUNet(dims, 1, CLASSES, spec.kernels, spec.strides, spec.strides[1:], spec.features, norm_name=norm)
    return net


def like_monais_vnet() -> nn.Module:
    """Ours with the numbers of convolutions of MONAI's V-Net, which has fewer than the publication, and its batch normalisation."""
    spec = plan("vnet", (16, 32, 64, 128, 256), 3, 5, "batch")
    net = Segmenter(VNet(spec, 1, 3, (1, 1, 2, 3, 2), (1, 1, 2, 2)), spec.strides, CLASSES, 1)
    initialise(net)
    return net


def contests() -> dict[str, tuple[tuple[int, ...], dict[str, nn.Module]]]:
    """Name -> input shape and contestants; the first is the peer that ratios are taken against."""
    flat, deep = plan("unet", (32, 64, 128, 256, 512), 2, 3), plan("unet", (16, 32, 64, 128), 3, 3)
    narrow = plan("vnet", (8, 16, 32, 64), 3, 5)
    monai_vnet = MonaiVNet(3, 1, CLASSES, act="prelu", dropout_prob_down=None, dropout_prob_up=(None, 0.0))
    return {
        "3D U-Net 16-128": ((4, 1, 40, 56, 40), {"MONAI DynUNet": dynunet(deep), "segpipe unet": build_network(deep, 1, CLASSES, 3)}),
        "2D U-Net 32-512": ((16, 1, 64, 64), {"MONAI DynUNet": dynunet(flat), "segpipe unet": build_network(flat, 1, CLASSES, 2)}),
        "3D V-Net 16-256": ((1, 1, 32, 32, 32), {"MONAI VNet": monai_vnet, "segpipe vnet": like_monais_vnet()}),
        "3D V-Net 8-64": ((1, 1, 40, 56, 40), {"segpipe vnet": build_network(narrow, 1, CLASSES, 3)}),
    }


def make_step(net: nn.Module, x: Tensor, half: bool) -> Callable[[], None]:
    """Forward in bfloat16 autocast or float32, cross entropy, backward; no optimiser."""
    target = torch.randint(0, CLASSES, (x.shape[0], *x.shape[2:]))

    def step() -> None:
        net.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = net(x)
        nn.functional.cross_entropy(logits.float(), target).backward()

    return step


def best_seconds(steps: dict[str, Callable[[], None]], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Least seconds of each step, taken in turns after one turn of warming up."""
    best = dict.fromkeys(steps, float("inf"))
    for turn in range(repeats + 1):
        for name, step in steps.items():
            start = clock()
            step()
            if turn > 0:
                best[name] = min(best[name], clock() - start)
    return best


def learners() -> dict[str, tuple[tuple[int, ...], NetworkPlan]]:
    """Name -> input shape and network."""
    return {
        "3D U-Net 16-128": ((4, 1, 40, 56, 40), plan("unet", (16, 32, 64, 128), 3, 3)),
        "2D U-Net 32-512": ((16, 1, 64, 64), plan("unet", (32, 64, 128, 256, 512), 2, 3)),
        "3D V-Net 8-64": ((1, 1, 40, 56, 40), plan("vnet", (8, 16, 32, 64), 3, 5)),
    }


def make_learning(forward: Callable[[Tensor], list[Tensor]], net: nn.Module, x: Tensor, half: bool) -> Callable[[], None]:
    """All heads in bfloat16 autocast or float32, cross entropy with noise, backward; no optimiser."""
    targets = [torch.randint(0, CLASSES, (x.shape[0], *head.shape[2:])) for head in forward(x)]

    def step() -> None:
        net.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            heads = forward(x)
        losses = [nn.functional.cross_entropy(head.float(), target) for head, target in zip(heads, targets, strict=True)]
        torch.stack(losses).sum().backward()

    return step


def against_compiled(only: str, repeats: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """Each network as it is and compiled, in turns."""
    rows: list[dict[str, Any]] = []
    print(
        f"{'network':18} {'precision':10} {'compiling s':>12} {'(processor)':>12} {'eager s':>9} {'compiled s':>11} {'times as fast':>14}"
    )
    for name, (shape, spec) in learners().items():
        if only not in name:
            continue
        net, x = build_network(replace(spec, deep_supervision=True), 1, CLASSES, len(shape) - 2), torch.randn(shape)
        for half in (False, True):
            torch.compiler.reset()
            eager, began, used = make_learning(net.forward_all, net, x, half), time.perf_counter(), sum(os.times()[:4])
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                built = make_learning(compiled(net.forward_all), net, x, half)
            built()
            compiling, processor = time.perf_counter() - began, sum(os.times()[:4]) - used
            seconds: dict[str, list[float]] = {"eager": [], "compiled": []}
            for turn in range(repeats + 1):
                for way, step in (("eager", eager), ("compiled", built)):
                    start = clock()
                    step()
                    if turn > 0:
                        seconds[way].append(clock() - start)
            usual, other = (statistics.median(seconds[way]) for way in ("eager", "compiled"))
            word = "bf16" if half else "fp32"
            print(f"{name:18} {word:10} {compiling:12.0f} {processor:12.0f} {usual:9.3f} {other:11.3f} {usual / other:14.2f}", flush=True)
            row = {"network": name, "precision": word, "shape": shape, "compile_seconds": compiling, "compile_processor_seconds": processor}
            rows.append(row | {"eager_seconds": usual, "compiled_seconds": other})
    print(f"load {os.getloadavg()[0]:.1f}")
    return rows


def against_monai(only: str, repeats: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """Each contest, in turns."""
    rows: list[dict[str, Any]] = []
    print(f"{'contest':18} {'network':16} {'float32 s':>10} {'bfloat16 s':>11} {'ratio f32':>10} {'ratio bf16':>11}")
    for contest, (shape, nets) in contests().items():
        if only not in contest:
            continue
        x = torch.randn(shape)
        steps = {f"{name}|{half}": make_step(net, x, half) for name, net in nets.items() for half in (False, True)}
        best = best_seconds(steps, repeats, clock)
        peer = next(iter(nets))
        for name in nets:
            single, half = best[f"{name}|False"], best[f"{name}|True"]
            ratios = single / best[f"{peer}|False"], half / best[f"{peer}|True"]
            print(f"{contest:18} {name:16} {single:10.3f} {half:11.3f} {ratios[0]:10.2f} {ratios[1]:11.2f}", flush=True)
            row = {"contest": contest, "network": name, "shape": shape, "float32_seconds": single, "bfloat16_seconds": half}
            rows.append(row | {"float32_ratio": ratios[0], "bfloat16_ratio": ratios[1]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--wall", action="store_true", help="seconds of the clock, not of the processor")
    parser.add_argument("--compile", action="store_true", help="segpipe's networks against themselves in code of torch.compile")
    parser.add_argument("--only", default="", help="contests whose name holds this word")
    parser.add_argument("--json", type=Path, help="file for the table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    clock = time.perf_counter if options.wall else time.process_time
    compare = against_compiled if options.compile else against_monai
    rows = compare(options.only, options.repeats, clock)
    if options.json:
        machine = {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), "threads": options.threads}
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
