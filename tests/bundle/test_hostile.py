"""Packages that somebody made to do harm: each is refused in one line, and nothing outside of the test's own package is touched."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segpipe.bundle.layout import CARD, DOCUMENT, INFERENCE, LICENCES, METADATA, MODEL, MODELHUB, PAGE
from segpipe.bundle.open import open_package
from segpipe.bundle.prove import prove
from segpipe.bundle.unpack import model_in
from segpipe.errors import ConfigError, SegpipeError
from tests.bundle.conftest import change_document, put

Attack = Callable[[Path], object]
IMAGE, EXPECTED = "samples/images/sample-01.nii.gz", "samples/labels/sample-01.nii.gz"


def told(change: Callable[[dict[str, Any]], object]) -> Attack:
    """A document that says something else."""
    return lambda folder: change_document(folder, change)


def holding(name: str, data: bytes) -> Attack:
    """A listed file, its checksum right."""
    return lambda folder: put(folder, name, data)


def extra(name: str) -> Attack:
    """A file that is not listed."""

    def attack(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")

    return attack


def linked(name: str, target: str) -> Attack:
    def attack(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return attack


def raw(text: bytes) -> Attack:
    return lambda folder: (folder / DOCUMENT).write_bytes(text)


def edited(name: str, old: bytes, new: bytes) -> Attack:
    def attack(folder: Path) -> None:
        data = (folder / name).read_bytes()
        assert old in data
        put(folder, name, data.replace(old, new, 1))

    return attack


def in_json(name: str, key: str, value: Any) -> Attack:
    def attack(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        content[key] = value
        put(folder, name, json.dumps(content).encode())

    return attack


def flipped(name: str) -> Attack:
    """One byte is another."""

    def attack(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(bytes(data))

    return attack


class _Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch owned",)


def bomb() -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as file:
        piece = bytes(1 << 24)
        for _ in range(65):  # 1.02 GiB
            file.write(piece)
    return packed.getvalue()


def huge(folder: Path) -> None:
    """A header of 32767 voxels along each axis before the bytes of a small scan."""
    data = bytearray(gzip.decompress((folder / IMAGE).read_bytes()))
    data[40:48] = struct.pack("<4h", 3, 32767, 32767, 32767)
    put(folder, IMAGE, gzip.compress(bytes(data)))


def model_with(change: Callable[[dict[str, bytes]], None]) -> Attack:
    """The model with other records, every checksum right."""

    def attack(folder: Path) -> None:
        with zipfile.ZipFile(folder / MODEL) as source:
            records = {name: source.read(name) for name in source.namelist()}
        change(records)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as target:
            for name, data in records.items():
                target.writestr(name, data)
        put(folder, MODEL, packed.getvalue())

    return attack


def code_with(line: bytes) -> Attack:
    """A line of TorchScript at the beginning of the network's `forward`."""

    def change(records: dict[str, bytes]) -> None:
        name = next(name for name, data in records.items() if name.endswith(".py") and b"def forward" in data)
        head, mark, rest = records[name].partition(b"-> Tensor:\n")
        assert mark
        records[name] = head + mark + b"    " + line + b"\n" + rest

    return model_with(change)


def pickled_with(text: bytes) -> Attack:
    def change(records: dict[str, bytes]) -> None:
        name = next(name for name in records if name.endswith("/data.pkl"))
        records[name] = text

    return model_with(change)


def grown(records: dict[str, bytes]) -> None:
    top = next(iter(records)).partition("/")[0]
    records[f"{top}/evil.so"] = b"\x7fELF"


FOLDERS: dict[str, tuple[Attack, str]] = {
    # files that do not belong
    "a script beside the model": (extra("setup.py"), "no part of a package"),
    "a compiled module": (extra("models/model.so"), "no part of a package"),
    "a hidden file": (extra(".bashrc"), "no part of a package"),
    "a pickle of weights": (extra("models/model.pt"), "no part of a package"),
    "a numpy pickle among the samples": (extra("samples/images/sample-01.npy"), "no part of a package"),
    "a folder of its own": (extra("hooks/post.sh"), "no part of a package"),
    "a cache of Python": (extra("docs/__pycache__/x.pyc"), "no part of a package"),
    "another config of MONAI": (extra("configs/train.json"), "no part of a package"),
    "MONAI's logging config, which runs code": (extra("configs/logging.conf"), "no part of a package"),
    "a sample of a format that may read other files": (extra("samples/images/sample-02.nrrd"), "no part of a package"),
    "a sample that is not listed": (extra("samples/images/sample-02.nii.gz"), "does not list"),
    "a name beyond ASCII": (extra("docs/READ\u202eME.md"), "no part of a package"),
    "a name with a newline": (extra("docs/a\nb.md"), "no part of a package"),
    "a link to a file elsewhere": (linked(IMAGE, "/etc/passwd"), "is a link"),
    "a link to a folder elsewhere": (linked("more", "/etc"), "is a link"),
    "a model that is a link": (linked(MODEL, "/dev/zero"), "is a link"),
    "a pipe": (lambda folder: os.mkfifo(folder / "docs" / "pipe"), "is a link or a device"),
    "too many files": (lambda folder: [(folder / "docs" / f"{n}.md").touch() for n in range(600)], "more than 512"),
    # checksums
    "a model with a changed byte": (flipped(MODEL), "checksum"),
    "a sample with a changed byte": (flipped(IMAGE), "checksum"),
    "an expected label map with a changed byte": (flipped(EXPECTED), "checksum"),
    "a licence that was changed": (flipped(LICENCES["weights"]), "checksum"),
    "a forged checksum": (told(lambda d: d["files"][MODEL].update(sha256="0" * 64)), "checksum"),
    "a checksum that is none": (told(lambda d: d["files"][MODEL].update(sha256="abc")), "sha256"),
    "a forged size": (told(lambda d: d["files"][MODEL].update(bytes=1)), "checksum"),
    "a huge size": (told(lambda d: d["files"][CARD].update(bytes=1 << 33)), "at most"),
    "a model that is missing": (lambda folder: (folder / MODEL).unlink(), "missing"),
    "a licence that is missing": (lambda folder: (folder / LICENCES["samples"]).unlink(), "missing"),
    "no document": (lambda folder: (folder / DOCUMENT).unlink(), f"no {DOCUMENT}"),
    # the document
    "a document that is no JSON": (raw(b"{"), "not plain JSON"),
    "a document in another encoding": (raw("{}".encode("utf-16")), "not plain JSON"),
    "a document that is a list": (raw(b"[]"), "no JSON object"),
    "a document nested without end": (raw(b"[" * 200_000), "not plain JSON"),
    "a document nested deeply": (raw(b'{"a":' * 40 + b"1" + b"}" * 40), "deep"),
    "a document with NaN": (raw(b'{"a": NaN}'), "not plain JSON"),
    "a key that stands twice": (raw(b'{"format": 1, "format": 2}'), "twice"),
    "a number with a million digits": (raw(b'{"a": ' + b"9" * 1_000_000 + b"}"), "not plain JSON"),
    "a huge document": (lambda folder: (folder / DOCUMENT).write_bytes(b" " * (9 << 20)), "at most"),
    "an unknown key": (told(lambda d: d.update(hook="x")), "unknown key"),
    "a missing key": (told(lambda d: d.pop("licences")), "lacks the key"),
    "a _target_": (told(lambda d: d["card"].update(_target_="os.system")), "would run code"),
    "a _target_ deep in a free part": (told(lambda d: d["provenance"].update(training={"x": [{"_target_": "os.system"}]})), "would run"),
    "an expression of MONAI": (told(lambda d: d["card"].update(limitations="$import os")), "would run code"),
    "a reference of MONAI": (told(lambda d: d["card"].update(limitations="@x")), "would run code"),
    "a macro of MONAI": (told(lambda d: d["card"].update(limitations="%/etc/passwd")), "would run code"),
    "a later format": (told(lambda d: d.update(format_version=99)), "format 99"),
    "another format": (told(lambda d: d.update(format="else")), "format"),
    "a format that is true": (told(lambda d: d.update(format_version=True)), "format_version"),
    "a name that leads away": (told(lambda d: d.update(name="../../home")), "name"),
    "a version that leads away": (told(lambda d: d.update(version="1/../../x")), "version"),
    "a file name that leads away": (told(lambda d: d["files"].update({"../x": {"sha256": "0" * 64, "bytes": 1}})), "no part of a package"),
    "an absolute file name": (told(lambda d: d["files"].update({"/etc/x": {"sha256": "0" * 64, "bytes": 1}})), "no part of a package"),
    "a sample that is a file elsewhere": (told(lambda d: d["samples"][0].update(images=["/etc/passwd"])), "images"),
    "a sample that is the model": (told(lambda d: d["samples"][0].update(images=[MODEL])), "sample-01"),
    "a sample that is not there": (told(lambda d: d["samples"][0].update(expected="samples/labels/sample-01x.nii.gz")), "not among"),
    "a model that is elsewhere": (told(lambda d: d.update(models=["/tmp/model.ts"])), "models"),
    "no sample": (told(lambda d: d.update(samples=[])), "samples"),
    "a tolerance that lets anything pass": (told(lambda d: d["samples"][0]["tolerance"].update(dice=0.0)), "tolerance.dice"),
    "voxels that let anything pass": (told(lambda d: d["samples"][0]["tolerance"].update(voxels=10**6)), "tolerance.voxels"),
    "two files that are one where capitals do not count": (
        told(lambda d: d["files"].update({EXPECTED.replace("sample", "Sample"): d["files"][EXPECTED]})),
        "but for capitals",
    ),
    "a version in digits of another script": (told(lambda d: d.update(version="\u0661.\u0662")), "version"),
    "a label twice": (told(lambda d: d["labels"].append(d["labels"][0])), "twice"),
    "no licence of the weights": (told(lambda d: d["licences"].pop("weights")), "weights"),
    "a licence that is none": (told(lambda d: d["licences"]["weights"].update(id="free")), "SPDX"),
    "a licence that is the model": (told(lambda d: d["licences"]["weights"].update(file=MODEL)), "licences.weights"),
    "an empty licence": (holding(LICENCES["weights"], b" \n"), "empty"),
    "a licence with an escape for the terminal": (holding(LICENCES["weights"], b"\x1b[2J"), "control"),
    "a card with an escape for the terminal": (told(lambda d: d["card"].update(title="\x1b[2J\u202e")), "title"),
    # what others would run
    "MONAI code in inference.json": (in_json(INFERENCE, "run", ["$__import__('os').system('touch owned')"]), "would run code"),
    "MONAI code in metadata.json": (in_json(METADATA, "task", "$__import__('os').system('touch owned')"), "would run code"),
    "a _target_ in metadata.json": (in_json(METADATA, "x", {"_target_": "os.system"}), "would run code"),
    "a _target_ in config.json": (in_json(MODELHUB, "x", {"_target_": "os.system"}), "would run code"),
    "a script in the page": (edited(PAGE, b"<body>", b"<body><script>x</script>"), "tag"),
    "a picture in the page": (edited(PAGE, b"<body>", b'<body><img src="http://x">'), "tag"),
    "a handler in the page": (edited(PAGE, b"<body>", b'<body><p onclick="x">'), "onclick"),
    "a javascript link in the page": (edited(PAGE, b"<body>", b'<body><a href="javascript:x">'), "href"),
    "a style that loads": (edited(PAGE, b"<style>", b"<style>@import 'http://x';"), "style"),
    "a page that sends elsewhere": (edited(PAGE, b"<body>", b'<meta http-equiv="refresh" content="0;url=http://x"><body>'), "http-equiv"),
    "a conditional comment": (edited(PAGE, b"<body>", b"<body><!--[if IE]>x<![endif]-->"), "comment"),
    "HTML in the Markdown": (holding(CARD, b"<script>x</script>"), "HTML"),
    "a javascript link in the Markdown": (holding(CARD, b"[x](javascript:x)"), "link"),
    # samples
    "a sample that unpacks without end": (lambda folder: put(folder, IMAGE, bomb()), "unpacks to more"),
    "a sample that is no gzip": (holding(IMAGE, b"no gzip"), "cannot be read"),
    "a sample that is no scan": (holding(IMAGE, gzip.compress(b"no scan" * 100)), "is no NIfTI file"),
    "a scan that claims to be huge": (huge, "too few for the"),
    "a label map that is a pickle": (holding(EXPECTED, gzip.compress(pickle.dumps(_Evil()))), "is no NIfTI file"),
    # the model
    "a pickle for a model": (holding(MODEL, pickle.dumps(_Evil())), "is not a model file"),
    "weights of torch.save for a model": (lambda folder: put(folder, MODEL, saved({"x": torch.zeros(1)})), "no segpipe.json"),
    "a library in the model": (model_with(grown), "evil.so"),
    "a model that writes files": (code_with(b'torch.save(x, "owned")'), "save"),
    "a model that writes files by another name": (code_with(b'(x). save ("owned")'), "save"),
    "a model that reads files": (code_with(b'_9 = torch.from_file("/etc/passwd", False, 9)'), "from_file"),
    "a model that loads a library": (code_with(b'_9 = __torch__.torch.classes.aoti.AOTIModelContainerRunnerCpu("x.so", 1)'), "classes"),
    "a model with operators of others": (code_with(b"_9 = ops.debugprims.load_tensor"), "ops"),
    "a model with operators by another name": (code_with(b"_9 = ops"), "ops"),
    "a class of others in the model's pickle": (pickled_with(b"\x80\x02c__torch__.torch.classes.aoti\nX\n)\x81."), "class"),
    "Python in the model's pickle": (pickled_with(b"\x80\x02cposix\nsystem\nU\x0btouch ownedq\x85R."), "cannot read"),
    "another model": (lambda folder: change_document(folder, lambda d: d["labels"][1].update(name="heart")), "other labels"),
}


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("attack", FOLDERS, ids=str)
def test_a_hostile_folder_is_refused_in_one_line(attack: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    change, word = FOLDERS[attack]
    change(folder)
    refused(folder, word)
    assert list(work.iterdir()) == []


def refused(path: Path, word: str) -> None:
    with pytest.raises(SegpipeError) as caught:
        package = open_package(path)
        prove(package, path, "cpu")
    text = str(caught.value)
    assert word in text
    assert str(path) in text
    assert text.isprintable(), text  # one line, no escapes
    assert len(text) < 500
    assert not isinstance(caught.value, ConfigError)


Records = list[tuple[zipfile.ZipInfo, bytes]]


def repacked(change: Callable[[Records], object]) -> Attack:
    """The archive with other records."""

    def attack(path: Path) -> None:
        with zipfile.ZipFile(path) as source:
            records = [(record, source.read(record)) for record in source.infolist()]
        change(records)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of names that stand twice
            with zipfile.ZipFile(path, "w") as target:
                for record, data in records:
                    target.writestr(record, data)

    return attack


def more(name: str, data: bytes = b"x", mode: int = 0o100644) -> Attack:
    record = zipfile.ZipInfo("x")
    record.filename, record.external_attr = name, mode << 16
    return repacked(lambda records: records.append((record, data)))


def patched(old: bytes, new: bytes) -> Attack:
    """Other bytes in the archive's table (its last match), which its checksums do not cover."""

    def attack(path: Path) -> None:
        data = path.read_bytes()
        place = data.rindex(old)
        path.write_bytes(data[:place] + new + data[place + len(old) :])

    return attack


def in_table(offset: int, value: bytes) -> Attack:
    """Other bytes in the table's entry of the model."""

    def attack(path: Path) -> None:
        data = bytearray(path.read_bytes())
        place = data.rindex(MODEL.encode()) - 46 + offset
        data[place : place + len(value)] = value
        path.write_bytes(bytes(data))

    return attack


def deflated_zeros(path: Path) -> None:
    record = zipfile.ZipInfo("samples/images/sample-09.nii")
    record.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "a") as target:
        target.writestr(record, bytes(64 << 20))


def hollow_model(path: Path) -> None:
    """Weights that shrink to a twentieth: a hundredth would be allowed to a text."""
    record = zipfile.ZipInfo("models/model.pt2")
    record.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "a") as target:
        target.writestr(record, os.urandom(1 << 18) + bytes(19 << 18))


def quine(path: Path) -> None:
    """Two records of the table share one place in the file, as in the bombs of Fifield (2019)."""
    data = bytearray(path.read_bytes())
    tables = [place for place in range(len(data) - 46) if data[place : place + 4] == b"PK\x01\x02"]
    first, second = tables[-2], tables[-1]
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    path.write_bytes(bytes(data))


EMPTY: Records = [(zipfile.ZipInfo(f"docs/{number}"), b"") for number in range(600)]
ARCHIVES: dict[str, tuple[Attack, str]] = {
    "a path that escapes": (more("../escaped"), "leads out"),
    "a path that escapes from within": (more("docs/../../escaped"), "leads out"),
    "an absolute path": (more("/tmp/escaped"), "leads out"),
    "a path of Windows": (more("docs\\..\\..\\escaped"), "leads out"),
    "a drive of Windows": (more("C:escaped"), "leads out"),
    "a path with nothing in it": (more("docs//x.md"), "leads out"),
    "a path with a zero byte": (patched(b"docs/README.md", b"docs/\x00../../x"[:14].ljust(14, b"x")), "refused"),
    "a name with a newline": (more("docs/x\ny.md"), "leads out"),
    "a link": (more("docs/x.md", b"/etc/passwd", stat.S_IFLNK | 0o777), "is a link"),
    "a device": (more("docs/x.md", b"", stat.S_IFCHR | 0o666), "is a link or a device"),
    "a script": (more("install.sh"), "no part of a package"),
    "a name twice": (more(MODEL), "twice"),
    "a name twice in other case": (more("MODELS/model.ts"), "twice"),
    "a folder with content": (more("docs/", b"x"), "folder with content"),
    "a bomb": (deflated_zeros, "unpacks to"),
    "a model that is hollow": (hollow_model, "unpacks to"),
    "records that overlap": (quine, "lies over another"),
    "a record that is encrypted": (in_table(8, struct.pack("<H", 1)), "encrypted"),
    "a packing that nobody uses": (in_table(10, struct.pack("<H", 93)), "packed by a method"),
    "a size that lies": (in_table(24, struct.pack("<I", 5)), "checksum"),
    "a place beyond the file": (in_table(42, struct.pack("<I", 1 << 30)), "refused"),
    "another name in the record than in the table": (patched(b"models/model.ts", b"models/model.Ts"), "refused"),
    "a program before the archive": (lambda path: path.write_bytes(b"#!/bin/sh\n" + path.read_bytes()), "no zip archive"),
    "something after the archive": (lambda path: path.write_bytes(path.read_bytes() + b"x" * 30), "something follows"),
    "an archive that is cut off": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cut off"),
    "no archive": (lambda path: path.write_bytes(b"nothing"), "no zip archive"),
    "an empty file": (lambda path: path.write_bytes(b""), "no zip archive"),
    "an archive in an archive": (more("models/model.zip"), "no part of a package"),
    "too many records": (
        repacked(lambda records: records.extend((zipfile.ZipInfo(f"docs/{n}"), b"") for n in range(600))),
        "more than 512",
    ),
}


@pytest.mark.parametrize("attack", ARCHIVES, ids=str)
def test_a_hostile_archive_is_refused_before_anything_is_unpacked(attack: str, archive: Path, cache: Path, tmp_path: Path) -> None:
    change, word = ARCHIVES[attack]
    change(archive)
    before = sorted(tmp_path.rglob("*"))
    refused(archive, word)
    with pytest.raises(SegpipeError):
        model_in(archive)
    assert sorted(tmp_path.rglob("*")) == before
    assert not cache.exists()


def test_the_attacks_on_the_network_work_where_nobody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why code is looked through: torch itself lets a network write files."""
    monkeypatch.chdir(tmp_path)

    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.save(x, "owned")
            return x

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Writes()), buffer)
    buffer.seek(0)
    torch.jit.load(buffer)(torch.zeros(1))
    assert (tmp_path / "owned").exists()
