"""Loading a model file: checked from end to end, one line for everything that is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pickle
import random
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from segpipe.errors import ModelError
from segpipe.package.export import export_model
from segpipe.package.model_file import DOCUMENT, FORMAT, document_text, load_model
from segpipe.package.torchscript import script_bytes
from segpipe.plan.plan import Plan


@pytest.fixture
def path(tmp_path: Path, network: nn.Module, plan: Plan) -> Path:
    export_model(network, plan, {"licence": "Apache-2.0"}, tmp_path / "model.ts")
    return tmp_path / "model.ts"


def refused(path: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_hash_is_that_of_the_file(path: Path) -> None:
    assert load_model(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_missing_file_a_folder_and_an_empty_file_are_told_apart(tmp_path: Path) -> None:
    refused(tmp_path / "none.ts", "no such file")
    refused(tmp_path, "is a folder")
    (tmp_path / "empty.ts").write_bytes(b"")
    refused(tmp_path / "empty.ts", "is not a model file")


@pytest.mark.parametrize("content", [b"hello", pickle.dumps({"a": 1}), b"\x1f\x8b" + bytes(100)])
def test_other_kinds_of_file_are_no_model_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.ts").write_bytes(content)
    refused(tmp_path / "model.ts", "is not a model file")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_called_cut_off(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, "is cut off")


def test_a_single_wrong_bit_in_the_weights_is_noticed(path: Path, network: nn.Module) -> None:
    data = bytearray(path.read_bytes())
    weights = next(iter(network.parameters())).detach().numpy().tobytes()[:64]
    data[data.index(weights) + 20] ^= 1
    path.write_bytes(bytes(data))
    refused(path, "is damaged")


@pytest.mark.parametrize("part", ["anywhere", "directory", "document"])
def test_wrong_bytes_anywhere_are_a_model_error_or_harmless(path: Path, part: str) -> None:
    """Names that are no text, places before the file, compressed or encrypted records that are none."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        (document,) = [record for record in archive.infolist() if record.filename.endswith(DOCUMENT)]
    start, end = {
        "anywhere": (0, len(data)),
        "directory": (data.index(b"PK\x01\x02"), len(data)),
        "document": (document.header_offset, document.header_offset + 300),
    }[part]
    draw = random.Random(0)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(draw.choice((1, 2, 20))):
            damaged[draw.randrange(start, end)] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            load_model(path)
        except ModelError as error:
            assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compressed_records_are_a_damaged_file(path: Path, compression: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(buffer, "w", compression) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    (first, *_) = zipfile.ZipFile(buffer).infolist()
    data = bytearray(buffer.getvalue())
    start = first.header_offset + 30 + len(first.filename)
    data[start : start + first.compress_size] = b"\xff" * first.compress_size
    path.write_bytes(data)
    refused(path, "is damaged: copy it again")


def test_a_checkpoint_is_not_taken_for_a_model(tmp_path: Path, network: nn.Module) -> None:
    torch.save(network.state_dict(), tmp_path / "last.ckpt")
    refused(tmp_path / "last.ckpt", f"holds no {DOCUMENT}")


def test_torchscript_of_another_program_is_refused(tmp_path: Path, network: nn.Module) -> None:
    (tmp_path / "other.ts").write_bytes(script_bytes(network, {}))
    refused(tmp_path / "other.ts", f"holds no {DOCUMENT}")
    (tmp_path / "other.ts").write_bytes(script_bytes(network, {DOCUMENT: '{"name": "other"}'}))
    refused(tmp_path / "other.ts", f"is not of the format {FORMAT}")
    (tmp_path / "other.ts").write_bytes(script_bytes(network, {DOCUMENT: "{"}))
    refused(tmp_path / "other.ts", "is not JSON")


def test_another_format_version_names_both_versions_and_the_cure(path: Path, network: nn.Module) -> None:
    document = load_model(path).document | {"format_version": 7, "segpipe_version": "9.1"}
    path.write_bytes(script_bytes(network, {DOCUMENT: document_text(document)}))
    refused(path, "has model format 7, written by segpipe 9.1; this segpipe reads format 1 and 2: use the segpipe that made it")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "plan version is 99"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"patch_size": [1, 2]}, "plan.patch_size has 2 values; must have 3"),
        ({"dims": 5}, "plan.dims is 5"),
        ({"_target_": "os.system"}, "unknown key '_target_'"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(path: Path, network: nn.Module, plan: Plan, change: dict[str, object], message: str) -> None:
    document = load_model(path).document | {"plan": dataclasses.asdict(plan) | change}
    path.write_bytes(script_bytes(network, {DOCUMENT: document_text(document)}))
    refused(path, message)


def test_an_archive_with_a_document_but_without_a_network_is_refused(path: Path) -> None:
    document = load_model(path).document
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"archive/extra/{DOCUMENT}", document_text(document))
    path.write_bytes(buffer.getvalue())
    refused(path, "cannot read the network")


def test_a_python_pickle_in_the_archive_is_not_executed(path: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "owned",)  # type: ignore[return-value]

    source = zipfile.ZipFile(path)
    buffer = io.BytesIO()
    with source, zipfile.ZipFile(buffer, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, pickle.dumps(Evil(), protocol=2) if name.endswith("data.pkl") else source.read(name))
    path.write_bytes(buffer.getvalue())
    refused(path, "cannot read the network")
    assert not (tmp_path / "owned").exists()


def test_loading_warns_of_nothing(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(path)
