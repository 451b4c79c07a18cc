"""The model file: one file that is the model: network, weights, and `segpipe.json` with the plan and all that is known of it.

`model.ts` (TorchScript) is what every run leaves; `.pt2` (torch.export) and `.onnx` hold the same network and document. Reading one
runs no Python from the file: a TorchScript and a `.pt2` archive are looked through before torch reads them (`script_check`, `pt2_check`),
ONNX is data; everything else is JSON that is checked against the plan's types.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from segpipe.errors import ModelError
from segpipe.package.archive import checked_records, rewritten
from segpipe.package.head import Head
from segpipe.package.onnx_file import read_onnx, with_text
from segpipe.package.openvino_network import from_onnx
from segpipe.package.parts_network import parts_of
from segpipe.package.pt2 import load_pt2
from segpipe.package.pt2_check import GRAPH
from segpipe.package.script_check import check_script
from segpipe.package.torchscript import Network, load_network
from segpipe.plan.plan import Plan, plan_from_dict

FORMAT = "segpipe-model"
FORMAT_VERSION = 1
FORMAT_OF_PARTS = 2
"""Of a file that holds networks of several plans, which earlier versions of the program would take for one."""
PARTS = "parts"
"""Key of the document with a plan for each network; only in files of several."""
DOCUMENT = "segpipe.json"
"""Name of the JSON document among the extra files of an archive, and the metadata of ONNX."""

_ONNX_START, _ONE_BYTE = 0x08, 0x80
"""ONNX begins with the number of its first field, and the version of its format in one byte; archives begin with `PK`."""
Kind = Literal["ts", "pt2", "onnx"]
"""Of a model file: TorchScript, torch.export, ONNX."""
RUNTIME_OF: dict[Kind, str] = {"ts": "torch", "pt2": "torch", "onnx": "openvino"}
"""What computes a network as it was read."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model file in memory, or one of its networks where it holds several.

    Attributes:
        plan: how scans are prepared, and what the outputs mean.
        document: the whole `segpipe.json`.
        network: (B, C, *spatial) -> logits (B, N, *spatial), on the device that it was loaded on.
        sha256: of the file, 64 hexadecimal digits; names the model in every output.
        path: where it was read.
        part: its number among the networks of its file.
        kind: of file.
        runtime: what computes `network`: torch, openvino, or compiled (code that torch has made of it).
        head: what makes logits (N, i, j, k) of features (F, i, j, k), where `network` gives features; None: it gives logits.
    """

    plan: Plan
    document: dict[str, Any]
    network: Network
    sha256: str
    path: Path
    part: int = 0
    kind: Kind = "ts"
    runtime: str = "torch"
    head: Head | None = None


def load_models(path: Path, device: torch.device | str = "cpu", sha256: str = "") -> tuple[Model, ...]:
    """Read a model file, checked from end to end: its network, or its networks where it was made of several plans.

    Which kind of file it is (TorchScript, torch.export's `.pt2`, ONNX), its content says. Networks of an ONNX file run in OpenVINO.

    Args:
        sha256: that its bytes must have, because they were checked before; empty: any.

    Raises:
        ModelError: no such file, not a model file, not the one of `sha256`, cut off or damaged, another format version, a plan that does
            not fit, a package or a device that the kind needs is missing.
    """
    data = _read(path)
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256:
        raise ModelError(f"{path}: is not the file that was checked, it has changed since: start again, and let nobody write there")
    content = content_of(data, path)
    document = _document(content.text, path)
    try:
        plans = _plans(document)
        module, network = network_of(content, path, device, str(document.get("torch_version", "an unknown version")))
        networks = parts_of(module, len(plans)) if document["format_version"] == FORMAT_OF_PARTS else [network]
    except ModelError as error:
        raise error if str(path) in str(error) else ModelError(f"{path}: {error}") from error
    parts = enumerate(zip(plans, networks, strict=True))
    return tuple(Model(plan, document, own, found, path, part, content.kind, RUNTIME_OF[content.kind]) for part, (plan, own) in parts)


@dataclass(frozen=True, eq=False)
class Content:
    """What a file's bytes are, its checksums verified.

    Attributes:
        text: its `segpipe.json`, not read yet.
        records: of an archive, by name; empty of ONNX.
    """

    kind: Kind
    text: bytes | str
    data: bytes
    records: dict[str, bytes]


def content_of(data: bytes, path: Path) -> Content:
    """The kind of a file and its document, by its bytes.

    Args:
        path: named in messages.

    Raises:
        ModelError: not a model file, cut off, damaged, or without a document.
    """
    if len(data) > 2 and data[0] == _ONNX_START and data[1] < _ONE_BYTE:
        return Content("onnx", read_onnx(data, DOCUMENT, path), data, {})
    records = checked_records(data, path)
    texts = [content for name, content in records.items() if name.endswith(f"/extra/{DOCUMENT}")]
    if not texts:
        raise ModelError(f"{path} holds no {DOCUMENT}, so it is not a segpipe model: give a file that `segpipe export` wrote")
    kind: Kind = "pt2" if any(name.partition("/")[2] == GRAPH for name in records) else "ts"
    return Content(kind, texts[0], data, records)


def network_of(content: Content, path: Path, device: torch.device | str, made: str) -> tuple[nn.Module, Network]:
    """The network in a file's bytes: as a module (of ONNX an empty one), and as the callable that it is.

    Args:
        made: version of torch that the document names.

    Raises:
        ModelError: it cannot be read, or not on `device`.
    """
    if content.kind == "pt2":
        return load_pt2(content.records, path, device)
    if content.kind == "onnx":
        if torch.device(device).type != "cpu":
            raise ModelError(f"{path}: ONNX runs on the processor here, not on {device}: use --device cpu, or a model.ts")
        return nn.Module(), from_onnx(content.data)
    check_script(content.records, path)
    try:
        return load_network(content.data, device)
    except (RuntimeError, ValueError, KeyError, EOFError) as error:
        here = torch.__version__
        raise ModelError(f"{path}: torch {here} cannot read the network, made with torch {made}: use that version or newer") from error


def with_document(content: Content, text: str) -> bytes:
    """The same file with another `segpipe.json`."""
    if content.kind == "onnx":
        return with_text(content.data, DOCUMENT, text)
    return rewritten(content.data, lambda name, old: text.encode() if name.endswith(f"/extra/{DOCUMENT}") else old)


def load_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """The one network of a model file.

    Raises:
        ModelError: as for `load_models`, or it holds several.
    """
    models = load_models(path, device)
    if len(models) > 1:
        raise ModelError(f"{path}: holds networks of {len(models)} plans, and one is wanted: give the model of a single training")
    return models[0]


def _plans(document: dict[str, Any]) -> list[Plan]:
    if document["format_version"] == FORMAT_VERSION:
        return [plan_from_dict(document.get("plan", {}))]
    told = document.get(PARTS)
    if not isinstance(told, list) or not told:
        raise ModelError(f"its {DOCUMENT} has no {PARTS}, with a plan for each of its networks: export the model again")
    return [plan_from_dict(plan) for plan in told]


def document_text(document: dict[str, Any]) -> str:
    """JSON of a document; NaN and infinity, which JSON does not know, become null."""
    return json.dumps(_json_safe(document), indent=2, allow_nan=False)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"{path} is a folder; must be a model file, such as RUN/model.ts")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        cure = "give a model file, such as RUN/model.ts (`segpipe export RUN` writes it), or a package that was pulled, as NAME@VERSION"
        raise ModelError(f"{path}: no such file; {cure}") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _document(text: bytes | str, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{path}: its {DOCUMENT} is not JSON: export the model again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(f"{path}: its {DOCUMENT} is not of the format {FORMAT}: give a file that `segpipe export` wrote")
    version = document.get("format_version")
    if version not in (FORMAT_VERSION, FORMAT_OF_PARTS) or isinstance(version, bool):
        made = document.get("segpipe_version", "unknown")
        raise ModelError(
            f"{path} has model format {version}, written by segpipe {made}; "
            f"this segpipe reads format {FORMAT_VERSION} and {FORMAT_OF_PARTS}: use the segpipe that made it, or export the run again"
        )
    return document


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
