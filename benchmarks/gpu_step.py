"""A step of learning on a GPU by layout, compiled or not, launched or replayed: what the choices for GPUs rest on (`docs/results.md`).

    python benchmarks/gpu_step.py

Forward, loss, backward, clipping and AdamW on one batch in bf16: channels first and last in memory, as torch takes the operators one by
one ("eager") and in code that `torch.compile` writes, launched kernel by kernel and replayed as one CUDA graph. Milliseconds a step,
the mean of 30 after warming up, and gigabytes at most.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from segpipe.network import segmenter
from segpipe.network.build import build_network
from segpipe.plan.plan import NetworkPlan
from segpipe.training.loss import DiceCrossEntropy, supervised

CASES = {
    "16-128, 4 x 40x56x40": ((16, 32, 64, 128), (4, 1, 40, 56, 40)),
    "32-256, 4 x 40x56x40": ((32, 64, 128, 256), (4, 1, 40, 56, 40)),
    "32-320, 2 x 128^3": ((32, 64, 128, 256, 320), (2, 1, 128, 128, 128)),
}
STEPS = 30


def padded_last(self: segmenter.Segmenter, x: Tensor) -> Tensor:
    """As `Segmenter.padded`, with channels last."""
    return segmenter.pad_to_multiple(x, self.divisor).contiguous(memory_format=torch.channels_last_3d)


def network(features: tuple[int, ...], last: bool) -> segmenter.Segmenter:
    """A 3D U-Net on the GPU."""
    torch.manual_seed(0)
    strides = ((1, 1, 1), *((2, 2, 2) for _ in features[1:]))
    built = build_network(NetworkPlan("unet", features, ((3, 3, 3),) * len(features), strides, deep_supervision=True), 1, 3, 3).cuda()
    return built.to(memory_format=torch.channels_last_3d) if last else built  # type: ignore[call-overload,no-any-return]


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds a step, and gigabytes at most."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / STEPS * 1000, torch.cuda.max_memory_reserved() / 1e9


def measure(features: tuple[int, ...], shape: tuple[int, ...], last: bool, compiled: bool, graph: bool) -> tuple[float, float]:
    """One row."""
    image = torch.randn(shape, device="cuda")
    label = torch.randint(0, 3, (shape[0], *shape[2:]), device="cuda", dtype=torch.uint8)
    net, loss = network(features, last), DiceCrossEntropy().cuda()
    weights = list(net.parameters())
    optimiser = torch.optim.AdamW(weights, 4e-3, fused=True, capturable=True)
    heads = torch.compile(net.forward_all, dynamic=False) if compiled else net.forward_all

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            total = supervised(loss, heads(image), label, net.steps)
        total.backward()
        nn.utils.clip_grad_norm_(weights, 1.0, foreach=True)
        optimiser.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(side)
    if not graph:
        return timed(step)
    recorded = torch.cuda.CUDAGraph()
    optimiser.zero_grad(set_to_none=True)
    with torch.cuda.graph(recorded):
        step()
    return timed(recorded.replay)


def main() -> None:
    """Print a row for each."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    first = segmenter.Segmenter.padded
    for (name, (features, shape)), last, compiled, graph in itertools.product(CASES.items(), *[(False, True)] * 3):
        segmenter.Segmenter.padded = padded_last if last else first  # type: ignore[method-assign]
        ms, gb = measure(features, shape, last, compiled, graph)
        words = ["channels last" if last else "channels first", "compiled" if compiled else "eager", "replayed" if graph else "launched"]
        print(f"{name:24}{', '.join(words):40}{ms:8.2f} ms{gb:8.2f} GB", flush=True)
        torch._dynamo.reset()


if __name__ == "__main__":
    main()
