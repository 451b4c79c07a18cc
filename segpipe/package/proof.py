"""That a file holds the network that it was made of: the same numbers on odd shapes, the same label map of a case."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from segpipe.errors import ModelError
from segpipe.evaluation.overlap import dice_per_class
from segpipe.package.precision import Compute, on_windows
from segpipe.patches.sliding_window import sliding_window
from segpipe.plan.plan import Plan
from segpipe.prepare.readout import readout_of

TOLERANCE = 1e-5
"""Largest |scripted - eager| in fp32, absolute plus relative to the eager logit: rounding of reordered sums, nothing more."""
OTHER_RUNTIME = 1e-4
"""As `TOLERANCE` for plain operators and for another program's kernels: they add up in an order of their own in every layer."""
_RUNS = 3
"""TorchScript rewrites the graph after its first runs; the rewritten one is what users get."""
_SAME_DICE = 0.9995
"""Rounds to 1.000."""

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class ProofCase:
    """What the label maps are compared on.

    Attributes:
        kind: held-out case of the run, or synthetic case.
        image: (C, I, J, K) float32, prepared.
    """

    kind: str
    image: Tensor


def synthetic_case(plan: Plan) -> ProofCase:
    """Smooth noise of the size of the patch: (C, *patch), as a prepared image has mean 0 and standard deviation 1."""
    generator = torch.Generator().manual_seed(0)
    coarse = [max(1, size // 4) for size in plan.patch_size]
    noise = torch.randn((1, len(plan.channels), *coarse), generator=generator)
    smooth = functional.interpolate(noise, size=plan.patch_size, mode="trilinear")[0]
    return ProofCase("synthetic case", smooth / smooth.std().clamp_min(1e-3))


def prove(eager: Network, found: Network, plan: Plan, tolerance: float = TOLERANCE, case: ProofCase | None = None) -> dict[str, Any]:
    """Compare `found`, which was read from the file's bytes, with the eager network.

    Args:
        tolerance: largest difference, absolute plus relative to the largest eager logit: what layers round off grows with the numbers in
            them, and a logit near zero may be the difference of large ones.
        case: None: none is compared.

    Returns:
        Plain values: the tolerance, the largest difference, that of each shape (B, C, *spatial), and the Dice of each label on the case.

    Raises:
        ModelError: it differs, or fails on a shape.
    """
    generator = torch.Generator().manual_seed(0)
    results: list[dict[str, Any]] = []
    for batch, spatial in zip((2, 1), odd_shapes(plan.patch_size[: plan.dims]), strict=True):
        image = torch.randn((batch, len(plan.channels), *spatial), generator=generator)
        expected = _run(eager, image)
        if tuple(expected.shape) != (batch, plan.outputs, *spatial):
            raise ModelError(f"network gives {tuple(expected.shape)} for {tuple(image.shape)}; must be {(batch, plan.outputs, *spatial)}")
        difference = max(_difference(_run(found, image), expected, tolerance) for _ in range(_RUNS))
        results.append({"shape": list(image.shape), "largest_difference": difference})
    largest = max(result["largest_difference"] for result in results)
    proof = {"tolerance": tolerance, "precision": "fp32", "largest_difference": largest, "shapes": results}
    return proof if case is None else proof | {"case": _on_case(eager, found, plan, case)}


def odd_shapes(patch: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Two spatial shapes other than the patch, every axis odd and different: about half of it, and a little more than it."""
    smaller = [(max(5, size // 2) | 1) + 2 * axis for axis, size in enumerate(patch)]
    larger = [(size + 2 + 2 * axis) | 1 for axis, size in enumerate(patch)]
    if tuple(smaller) == tuple(patch):
        smaller = [size + 2 for size in smaller]
    return [tuple(smaller), tuple(larger)]


def label_dice(found: Tensor, expected: Tensor, plan: Plan) -> dict[str, float]:
    """Dice of each label by name, between the label maps of two (N, I, J, K) logits; 1 of a label that is in neither."""
    readout = readout_of(plan)
    dice = dice_per_class(readout.indices(found).numpy(), readout.indices(expected).numpy(), plan.classes)
    return {label.name: 1.0 if math.isnan(dice[label.index - 1]) else dice[label.index - 1] for label in plan.labels[1:]}


def _on_case(eager: Network, found: Network, plan: Plan, case: ProofCase) -> dict[str, Any]:
    logits = [_whole(network, plan, case.image) for network in (found, eager)]
    dice = label_dice(logits[0], logits[1], plan)
    worst = min(dice, key=lambda name: dice[name], default="")
    if worst and dice[worst] < _SAME_DICE:
        told = f"Dice of {worst} {dice[worst]:.4f}; must be 1.000: nothing was written"
        raise ModelError(f"on a {case.kind} the file's label map differs from the network's: {told}")
    return {"kind": case.kind, "shape": list(case.image.shape), "dice": {name: round(value, 6) for name, value in dice.items()}}


def _whole(network: Network, plan: Plan, image: Tensor) -> Tensor:
    """(N, I, J, K) logits of a whole case, of windows that barely overlap: enough to compare."""
    with torch.inference_mode():
        return sliding_window(image, on_windows(network, plan.dims, Compute("cpu", False)), plan.patch_size, 0.0, 0)


def _run(network: Network, image: Tensor) -> Tensor:
    try:
        with torch.inference_mode():
            return network(image)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ModelError(f"network fails on an input of {tuple(image.shape)}: {reason}: it must take any spatial size") from error


def _difference(found: Tensor, expected: Tensor, tolerance: float) -> float:
    """Largest absolute difference.

    Raises:
        ModelError: it is beyond the tolerance, or not a number.
    """
    if found.shape != expected.shape:
        raise ModelError(f"exported network gives {tuple(found.shape)}, the eager one {tuple(expected.shape)}: nothing was written")
    gap = (found - expected).abs()
    largest = float(gap.max())
    allowed = tolerance * (1.0 + float(expected.abs().max()))
    if not largest <= allowed:  # nor where it is not a number
        raise ModelError(f"exported network differs from the eager one by {largest:.3g}; at most {allowed:.3g}: nothing was written")
    return largest


def together(proofs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One proof of several networks: the largest difference of all, and the shapes of each."""
    return dict(proofs[0]) | {
        "largest_difference": max(one["largest_difference"] for one in proofs),
        "shapes": [shape for one in proofs for shape in one["shapes"]],
    }
