"""Eager network -> proven `model.ts`."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import segpipe
from segpipe.errors import ModelError
from segpipe.io.atomic import write_bytes
from segpipe.package.model_file import DOCUMENT, FORMAT, FORMAT_OF_PARTS, FORMAT_VERSION, PARTS, document_text
from segpipe.package.parts_network import PartsNetwork, parts_of
from segpipe.package.torchscript import load_network, script_bytes
from segpipe.plan.plan import Plan

log = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""Largest |scripted - eager| in fp32, absolute plus relative to the eager logit: rounding of reordered sums, nothing more."""
_RUNS = 3
"""TorchScript rewrites the graph after its first runs; the rewritten one is what users get."""


def export_model(network: nn.Module, plan: Plan, document: dict[str, Any], path: Path) -> dict[str, Any]:
    """Script `network`, prove the script equal to it, and write the model file.

    What is proved is the file's own content: the script is read back before it is compared.

    Args:
        document: metrics, provenance, licence, model card ... written into `segpipe.json` as they are; the keys `format`,
            `format_version`, `segpipe_version`, `torch_version`, `task`, `plan`, `labels` and `proof` are set here.
        path: replaced only after the proof.

    Returns:
        The proof: the tolerance, and for each shape (B, C, *spatial) the largest difference.

    Raises:
        ModelError: the network cannot be scripted, fails on a shape, or its script differs from it.
        ConfigError: `path` cannot be written.
    """
    eager = _eager(network)
    module, scripted = load_network(script_bytes(eager, {}), "cpu")
    proof = _prove(eager, scripted, plan)
    _write(module, plan, proof, document | {"format_version": FORMAT_VERSION}, path)
    return proof


def export_parts(parts: Sequence[tuple[nn.Module, Plan]], document: dict[str, Any], path: Path) -> dict[str, Any]:
    """As `export_model`, of networks of several plans, which agree on channels and labels: each is proved by itself.

    Args:
        parts: each network with its plan.

    Returns:
        The proof: the tolerance, the largest difference, and the shapes of all.
    """
    eager = [_eager(network) for network, _ in parts]
    module, _ = load_network(script_bytes(PartsNetwork(eager).eval(), {}), "cpu")
    scripted = parts_of(module, len(parts))
    each = [_prove(one, script, plan) for one, script, (_, plan) in zip(eager, scripted, parts, strict=True)]
    proof = each[0] | {
        "largest_difference": max(one["largest_difference"] for one in each),
        "shapes": [shape for one in each for shape in one["shapes"]],
    }
    told = {"format_version": FORMAT_OF_PARTS, PARTS: [plan.to_dict() for _, plan in parts]}
    _write(module, parts[0][1], proof, document | told, path)
    return proof


def _eager(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).cpu().float().eval()


def _write(module: nn.Module, plan: Plan, proof: dict[str, Any], document: dict[str, Any], path: Path) -> None:
    complete = {
        **document,
        "format": FORMAT,
        "segpipe_version": segpipe.__version__,
        "torch_version": str(torch.__version__),
        "task": plan.task,
        "plan": plan.to_dict(),
        "labels": {str(label.value): label.name for label in plan.labels},
        "proof": proof,
    }
    write_bytes(path, script_bytes(module, {DOCUMENT: document_text(complete)}))
    log.info("%s written: scripted equals eager to %.1e on %d shapes", path, proof["largest_difference"], len(proof["shapes"]))


def _prove(eager: nn.Module, scripted: Callable[[torch.Tensor], torch.Tensor], plan: Plan) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    results: list[dict[str, Any]] = []
    for batch, spatial in zip((2, 1), _odd_shapes(plan.patch_size[: plan.dims]), strict=True):
        image = torch.randn((batch, len(plan.channels), *spatial), generator=generator)
        expected = _run(eager, image)
        if tuple(expected.shape) != (batch, plan.outputs, *spatial):
            raise ModelError(f"network gives {tuple(expected.shape)} for {tuple(image.shape)}; must be {(batch, plan.outputs, *spatial)}")
        difference = max(_difference(_run(scripted, image), expected) for _ in range(_RUNS))
        results.append({"shape": list(image.shape), "largest_difference": difference})
    largest = max(result["largest_difference"] for result in results)
    return {"tolerance": TOLERANCE, "precision": "fp32", "largest_difference": largest, "shapes": results}


def _odd_shapes(patch: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Two spatial shapes other than the patch, every axis odd and different: about half of it, and a little more than it."""
    smaller = [(max(5, size // 2) | 1) + 2 * axis for axis, size in enumerate(patch)]
    larger = [(size + 2 + 2 * axis) | 1 for axis, size in enumerate(patch)]
    if tuple(smaller) == tuple(patch):
        smaller = [size + 2 for size in smaller]
    return [tuple(smaller), tuple(larger)]


def _run(network: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    try:
        with torch.inference_mode():
            return network(image)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"network fails on an input of {tuple(image.shape)}: {reason}: it must take any spatial size") from error


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference.

    Raises:
        ModelError: it is beyond the tolerance, or not a number.
    """
    if found.shape != expected.shape:
        raise ModelError(f"scripted network gives {tuple(found.shape)}, the eager one {tuple(expected.shape)}: nothing was written")
    gap = (found - expected).abs()
    largest = float(gap.max())
    if not bool((gap <= TOLERANCE + TOLERANCE * expected.abs()).all()):
        raise ModelError(f"scripted network differs from the eager one by {largest:.3g}; at most {TOLERANCE:g}: nothing was written")
    return largest
