"""What a `.pt2` archive may hold, before torch reads it.

`torch.export.load` (torch 2.13) unpickles weights, constants and sample inputs where the archive asks for it, imports the modules that
a tree's JSON names, looks up operators by any dotted path under `torch`, evaluates sizes as Python, and pastes names into Python
code. So each record must be one of those that a network of tensors needs, and each string a name, a size or an operator of `aten`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segpipe.errors import ModelError

GRAPH = "models/model.json"
SAMPLES = "data/sample_inputs/model.pt"
"""A pickle in torch's own files; empty in ours."""
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"

_RECORD = re.compile(
    r"models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt|extra/segpipe\.json|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|\.format_version|\.storage_alignment"
)
_NAME = re.compile(r"[\w.+-]*", re.ASCII)
_ARITHMETIC = "add|sub|mul|floordiv|mod|neg|getitem|eq|ne|lt|le|gt|ge"
_OPERATOR = re.compile(rf"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+|_operator\.({_ARITHMETIC})", re.ASCII)
"""`aten.from_file` would read any file of the machine."""
_SIZE_WORDS = frozenset(
    [
        "Symbol",
        "Integer",
        "positive",
        "nonnegative",
        "integer",
        "True",
        "False",
        "Add",
        "Mul",
        "Pow",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CleanDiv",
        "CeilDiv",
        "Max",
        "Min",
        "Equality",
        "Unequality",
        "GreaterThan",
        "LessThan",
        "StrictGreaterThan",
        "StrictLessThan",
        "And",
        "Or",
        "Not",
    ]
)
_SIZE_TOKEN = re.compile(r"'[su]\d+'|[su]\d+|\w+|[(),=+*<> -]", re.ASCII)
_TREE_TYPES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_TREES = ("in_spec", "out_spec")


def check_pt2(records: dict[str, bytes], path: Path) -> None:
    """Refuse an archive of which torch would run, import or read more than a network of plain operators and its tensors.

    Args:
        records: by their names, which begin with the archive's own folder.

    Raises:
        ModelError: naming what is refused.
    """
    inner = {name.partition("/")[2]: content for name, content in records.items()}
    folders = {name.partition("/")[0] for name in records}
    foreign = next((name for name in inner if _RECORD.fullmatch(name) is None), None)
    if foreign is not None or len(folders) != 1 or inner.get(SAMPLES):
        raise _refusal(path, f"record {foreign or SAMPLES}")
    for name in (WEIGHTS, CONSTANTS):
        config = _json(inner, name, path).get("config")
        entries = list(config.values()) if isinstance(config, dict) else [None]
        if not all(isinstance(entry, dict) and entry.get("use_pickle") is False for entry in entries):
            raise _refusal(path, f"a pickle in {name}")
    for name in (WEIGHTS, CONSTANTS, GRAPH):
        _check_strings(_json(inner, name, path), path)
    graph = _json(inner, GRAPH, path)
    if graph.get("guards_code"):
        raise _refusal(path, "guards_code")


def _check_strings(value: Any, path: Path) -> None:
    for key, text in _strings(value, ""):
        if key == "expr_str":
            words = _SIZE_TOKEN.findall(text)
            fits = "".join(words) == text and all(not word.isidentifier() or _is_size_word(word) for word in words)
        elif key in _TREES:
            fits = _is_plain_tree(text)
        elif key == "target" and "." in text and text.split(".")[0] in ("torch", "_operator", "math"):
            fits = _OPERATOR.fullmatch(text) is not None
        else:
            fits = _NAME.fullmatch(text) is not None
        if not fits:
            raise _refusal(path, f"{key or 'a key'} {text[:80]!r}")
    for node in _nodes(value):
        if _OPERATOR.fullmatch(str(node["target"])) is None or node.get("metadata"):
            raise _refusal(path, f"operator {str(node['target'])[:80]!r}")


def _is_size_word(word: str) -> bool:
    return word in _SIZE_WORDS or re.fullmatch(r"[su]\d+", word) is not None


def _is_plain_tree(text: str) -> bool:
    """Whether a tree of arguments is made of tuples, lists and dicts with plain names."""
    try:
        _, tree = json.loads(text)
    except (ValueError, TypeError):
        return False
    return _is_plain_branch(tree)


def _is_plain_branch(tree: Any) -> bool:
    if not isinstance(tree, dict) or set(tree) != {"type", "context", "children_spec"} or not isinstance(tree["children_spec"], list):
        return False
    plain = tree["type"] in _TREE_TYPES and re.fullmatch(r'null|\[("\w+"(, )?)*\]', str(tree["context"] or "null"), re.ASCII) is not None
    return plain and all(_is_plain_branch(child) for child in tree["children_spec"])


def _strings(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every string with the key that it stands under, and every key with an empty one."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield "", name
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every node of the graph and of the graphs within it."""
    if isinstance(value, dict):
        if "inputs" in value and "target" in value:
            yield value
        for item in value.values():
            yield from _nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def _json(records: dict[str, bytes], name: str, path: Path) -> dict[str, Any]:
    try:
        told = json.loads(records[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its {name} is missing or not JSON: export the model again") from error
    if not isinstance(told, dict):
        raise ModelError(f"{path}: its {name} is not of the format that `segpipe export` writes: export the model again")
    return told


def _refusal(path: Path, what: str) -> ModelError:
    cure = "which no network of plain operators needs, and was not read: give a file that `segpipe export` wrote"
    return ModelError(f"{path}: holds {what}, {cure}")
