"""Eager network -> proven model file: `model.ts`, and on request `.pt2` and `.onnx`."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

import segpipe
from segpipe.io.atomic import write_bytes
from segpipe.package.model_file import (
    DOCUMENT,
    FORMAT,
    FORMAT_OF_PARTS,
    FORMAT_VERSION,
    PARTS,
    Kind,
    content_of,
    document_text,
    network_of,
    with_document,
)
from segpipe.package.onnx_file import onnx_bytes
from segpipe.package.parts_network import PartsNetwork, parts_of
from segpipe.package.proof import OTHER_RUNTIME, TOLERANCE, ProofCase, odd_shapes, prove, synthetic_case, together
from segpipe.package.pt2 import exported_program, pt2_bytes
from segpipe.package.torchscript import load_network, script_bytes
from segpipe.plan.plan import Plan

log = logging.getLogger(__name__)

TOLERANCES: dict[Kind, float] = {"ts": TOLERANCE, "pt2": OTHER_RUNTIME, "onnx": OTHER_RUNTIME}


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
    return export_kinds(network, plan, document, {"ts": path})["ts"]


def export_kinds(
    network: nn.Module, plan: Plan, document: dict[str, Any], paths: Mapping[Kind, Path], case: ProofCase | None = None
) -> dict[Kind, dict[str, Any]]:
    """As `export_model`, in several kinds of file, which are written when all are proved.

    Args:
        paths: for each kind the file.
        case: on which the label maps must be equal; None: a synthetic one.

    Returns:
        The proof of each kind.

    Raises:
        ModelError: as `export_model`, or a package is missing.
        ConfigError: a file cannot be written.
    """
    eager = _eager(network)
    case = case or synthetic_case(plan)
    shape = (2, len(plan.channels), *odd_shapes(plan.patch_size[: plan.dims])[0])
    program = exported_program(eager, shape) if set(paths) - {"ts"} else None
    proofs: dict[Kind, dict[str, Any]] = {}
    proved: dict[Kind, bytes] = {}
    for kind, path in paths.items():
        content = content_of(_bytes(kind, eager, program), path)
        _, found = network_of(content, path, "cpu", str(torch.__version__))
        proofs[kind] = prove(eager, found, plan, TOLERANCES[kind], case)
        proved[kind] = with_document(content, _document_text(plan, proofs[kind], document | {"format_version": FORMAT_VERSION}))
    for kind, path in paths.items():
        write_bytes(path, proved[kind])
        _told(path, proofs[kind])
    return proofs


def _bytes(kind: Kind, eager: nn.Module, program: ExportedProgram | None) -> bytes:
    extra = {DOCUMENT: "{}"}
    if kind == "ts" or program is None:
        return script_bytes(eager, extra)
    return pt2_bytes(program, extra) if kind == "pt2" else onnx_bytes(program, extra)


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
    proof = together([prove(one, script, plan) for one, script, (_, plan) in zip(eager, scripted, parts, strict=True)])
    told = {"format_version": FORMAT_OF_PARTS, PARTS: [plan.to_dict() for _, plan in parts]}
    write_bytes(path, script_bytes(module, {DOCUMENT: _document_text(parts[0][1], proof, document | told)}))
    _told(path, proof)
    return proof


def paths_of(kinds: Sequence[Kind], stem: Path) -> dict[Kind, Path]:
    """The file of each kind; `stem` itself where one kind is asked for, else with the kind's ending."""
    if len(kinds) == 1:
        return {kinds[0]: stem}
    base = stem.with_suffix("") if stem.suffix in (".ts", ".pt2", ".onnx") else stem
    return {kind: base.with_name(f"{base.name}.{kind}") for kind in kinds}


def _eager(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).cpu().float().eval()


def _document_text(plan: Plan, proof: dict[str, Any], document: dict[str, Any]) -> str:
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
    return document_text(complete)


def _told(path: Path, proof: dict[str, Any]) -> None:
    log.info("%s written: equal to the eager network to %.1e on %d shapes", path, proof["largest_difference"], len(proof["shapes"]))
