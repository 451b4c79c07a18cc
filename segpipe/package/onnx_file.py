"""ONNX: a network as a graph that many programs run, with `segpipe.json` among its metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from segpipe.errors import ModelError
from segpipe.package.extra import needed
from segpipe.package.pt2 import quiet

SHA256 = "segpipe.graph_sha256"
"""Metadata with the hash of the graph: ONNX has no checksums of its own."""
_DOMAINS = ("", "ai.onnx")


def onnx_bytes(program: ExportedProgram, extra: dict[str, str]) -> bytes:
    """An ONNX file of an exported network, whose sizes stay free.

    Args:
        extra: name -> text; found again among the metadata.

    Raises:
        ModelError: ONNX has no such operator, the file would be over 2 GB, or a package is missing.
    """
    needed("onnx", "onnxscript")
    import torch

    try:
        with quiet():
            made = torch.onnx.export(program, dynamo=True, verbose=False, external_data=False)
            if made is None:
                raise ModelError("torch.onnx made no file: use --to ts")
            model: Any = made.model_proto
    except Exception as error:  # torch.onnx has errors of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"the network cannot be written as ONNX: {reason}: use --to ts") from error
    for message in _messages(model):
        for field in ("metadata_props", "doc_string"):  # stack traces: paths of Python files on the machine that made it
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    _set(model, extra | {SHA256: _hash(model)})
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def read_onnx(data: bytes, name: str, path: Path) -> str:
    """The text file `name` from an ONNX file, the whole of which is checked.

    Raises:
        ModelError: not ONNX, damaged or changed, weights in other files, operators of other makers, no such text, or a package is missing.
    """
    needed("onnx")
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{path} is not a model file, or cut off: give one that `segpipe export` wrote, such as RUN/model.ts") from error
    texts: dict[str, str] = {entry.key: entry.value for entry in model.metadata_props}
    if name not in texts:
        raise ModelError(f"{path} holds no {name}, so it is not a segpipe model: give a file that `segpipe export` wrote")
    if texts.get(SHA256) != _hash(model):
        raise ModelError(f"{path} is damaged, or was changed since it was exported: copy it again, or export the run again")
    for message in _messages(model):
        fields = message.DESCRIPTOR.fields_by_name
        if "external_data" in fields and (message.external_data or message.data_location):
            raise ModelError(f"{path}: has weights in other files, which are not read: give a file that `segpipe export` wrote")
        if "op_type" in fields and message.domain not in _DOMAINS:
            raise ModelError(f"{path}: has operators of {message.domain!r}, which are not run: give a file that `segpipe export` wrote")
    return texts[name]


def with_text(data: bytes, name: str, text: str) -> bytes:
    """The same ONNX file with another text file."""
    import onnx

    model: Any = onnx.ModelProto()
    model.ParseFromString(data)
    _set(model, {entry.key: entry.value for entry in model.metadata_props} | {name: text})
    changed: bytes = model.SerializeToString(deterministic=True)
    return changed


def _set(model: Any, texts: dict[str, str]) -> None:
    del model.metadata_props[:]
    for key, value in texts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _hash(model: Any) -> str:
    return hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in [value] if hasattr(value, "ListFields") else list(value):
            yield from _messages(inner)
