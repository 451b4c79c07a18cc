"""`model.ts`: one file that is the model: TorchScript network, weights, and `segpipe.json` with the plan and all that is known of it.

Reading it runs no Python from the file: torch's own loader reads the network (its unpickler knows tensors and TorchScript
classes only), everything else is JSON that is checked against the plan's types.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segpipe.errors import ModelError
from segpipe.package.parts_network import parts_of
from segpipe.package.torchscript import Network, load_network
from segpipe.plan.plan import Plan, plan_from_dict

FORMAT = "segpipe-model"
FORMAT_VERSION = 1
FORMAT_OF_PARTS = 2
"""Of a file that holds networks of several plans, which earlier versions of the program would take for one."""
PARTS = "parts"
"""Key of the document with a plan for each network; only in files of several."""
DOCUMENT = "segpipe.json"
"""Name of the JSON document among the extra files of the TorchScript archive."""

_ZIP_START = b"PK\x03\x04"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What torch writes; the unpackers of the others raise errors of their own."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError)
"""What zipfile raises over damaged bytes: ValueError for names that are no text and places before the file, RuntimeError for records that
claim to be encrypted or (NotImplementedError) of an unknown kind."""


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
    """

    plan: Plan
    document: dict[str, Any]
    network: Network
    sha256: str
    path: Path
    part: int = 0


def load_models(path: Path, device: torch.device | str = "cpu") -> tuple[Model, ...]:
    """Read a model file, checked from end to end: its network, or its networks where it was made of several plans.

    Raises:
        ModelError: no such file, not a model file, cut off or damaged, another format version, a plan that does not fit.
    """
    data = _read(path)
    document = _document(data, path)
    try:
        plans = _plans(document)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    try:
        module, network = load_network(data, device)
    except (RuntimeError, ValueError, KeyError, EOFError) as error:
        made, here = document.get("torch_version", "an unknown version"), torch.__version__
        raise ModelError(f"{path}: torch {here} cannot read the network, made with torch {made}: use that version or newer") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if document["format_version"] == FORMAT_VERSION:
        return (Model(plans[0], document, network, sha256, path),)
    try:
        networks = parts_of(module, len(plans))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    parts = zip(plans, networks, strict=True)
    return tuple(Model(plan, document, own, sha256, path, part) for part, (plan, own) in enumerate(parts))


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
        raise ModelError(f"{path}: no such file; give a model file, such as RUN/model.ts (`segpipe export RUN` writes it)") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _document(data: bytes, path: Path) -> dict[str, Any]:
    text = _extra_file(data, path)
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


def _extra_file(data: bytes, path: Path) -> bytes:
    """`segpipe.json` from the archive, all of whose checksums are verified."""
    damaged = ModelError(f"{path} is damaged: copy it again, or export the run again")
    try:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            if data.startswith(_ZIP_START):
                raise ModelError(f"{path} is cut off: copy it again, or export the run again")
            raise ModelError(f"{path} is not a model file: give one that `segpipe export` wrote, such as RUN/model.ts")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = [name for name in archive.namelist() if name.endswith(f"/extra/{DOCUMENT}")]
            if not found:
                raise ModelError(f"{path} holds no {DOCUMENT}, so it is not a segpipe model: give a file that `segpipe export` wrote")
            if any(record.compress_type not in _COMPRESSIONS for record in archive.infolist()):
                raise damaged
            if archive.testzip() is not None:
                raise ModelError(f"{path} is damaged (a checksum is wrong): copy it again, or export the run again")
            return archive.read(found[0])
    except _DAMAGE as error:
        raise damaged from error


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
