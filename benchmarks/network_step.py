"""Forward and backward pass of segpipe's networks against MONAI's at the same widths, in one run, turn by turn.

Prints a table and, with `--json FILE`, writes it. Times are processor seconds of one thread by default, which other programs on
the machine disturb least; `--wall` takes the clock's seconds and `--threads N` uses N threads.

    python benchmarks/network_step.py --json step.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.networks.nets import DynUNet
from monai.networks.nets import VNet as MonaiVNet
from torch import Tensor, nn

from segpipe.network.blocks import initialise
from segpipe.network.build import build_network
from segpipe.network.segmenter import Segmenter
from segpipe.network.vnet import VNet
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--wall", action="store_true", help="seconds of the clock, not of the processor")
    parser.add_argument("--only", default="", help="contests whose name holds this word")
    parser.add_argument("--json", type=Path, help="file for the table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    clock = time.perf_counter if options.wall else time.process_time
    rows = []
    print(f"{'contest':18} {'network':16} {'float32 s':>10} {'bfloat16 s':>11} {'ratio f32':>10} {'ratio bf16':>11}")
    for contest, (shape, nets) in contests().items():
        if options.only not in contest:
            continue
        x = torch.randn(shape)
        steps = {f"{name}|{half}": make_step(net, x, half) for name, net in nets.items() for half in (False, True)}
        best = best_seconds(steps, options.repeats, clock)
        peer = next(iter(nets))
        for name in nets:
            single, half = best[f"{name}|False"], best[f"{name}|True"]
            ratios = single / best[f"{peer}|False"], half / best[f"{peer}|True"]
            print(f"{contest:18} {name:16} {single:10.3f} {half:11.3f} {ratios[0]:10.2f} {ratios[1]:11.2f}", flush=True)
            row = {"contest": contest, "network": name, "shape": shape, "float32_seconds": single, "bfloat16_seconds": half}
            rows.append(row | {"float32_ratio": ratios[0], "bfloat16_ratio": ratios[1]})
    if options.json:
        machine = {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), "threads": options.threads}
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
