"""What runs on the nodes, without Ray."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

from segpipe import __version__
from segpipe.errors import ConfigError, ModelError
from segpipe.inference.cluster.hearing import check_version, refusal
from segpipe.inference.cluster.parcels import Kit
from segpipe.inference.cluster.stages import Networks, read, write
from segpipe.inference.gather import Examination
from segpipe.inference.messages import Order
from segpipe.inference.packing import row_from_json, row_to_json, scan_to_json
from segpipe.inference.serve import make_segmenter
from segpipe.io.alive import new_token
from segpipe.io.atomic import check_folder

from .conftest import LocalFleet, ended, travelled


def loaded(order: Order) -> tuple[Networks, bytes]:
    networks = Networks()
    said, (kit,) = ended(networks.load(dataclasses.asdict(order), __version__))
    assert said[-1]["end"]["ready"]["channels"] and said[-1]["end"]["node"]
    return networks, kit


def wanted(path: Path, out: Path) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    probe = out / f".{new_token()}"
    probe.touch()
    return {"scan": scan_to_json(Examination("case_0", (path,))), "level": 20, "probe": str(probe)}


def test_a_scan_that_travels_between_nodes_ends_as_one_that_stays(order: Order, scans: Path, tmp_path: Path) -> None:
    path = scans / "case_0.nii.gz"
    networks, kit = loaded(order)
    told = wanted(path, tmp_path / "out")
    said, (ready,) = ended(read(kit, __version__, told))
    assert said[0]["begun"] and said[-1]["end"]["reason"] == "" and not said[-1]["end"]["unseen"]
    seconds = said[-1]["end"]["seconds"]
    answered, (restored,) = ended(networks.compute(travelled(ready), {**told, "seconds": seconds}))
    assert answered[-1] == {"end": {"reason": ""}}
    row = said[-1]["end"]["row"]
    written, nothing = ended(write(kit, __version__, travelled(restored), {**told, "row": row, "before": None, "token": new_token()}))
    assert not nothing
    there = row_from_json(written[-1]["end"]["row"])
    assert there is not None and there.status == "done"

    segmenter, _ = make_segmenter(dataclasses.replace(order, out=str(tmp_path / "here")))
    here = segmenter.segment(Examination("case_0", (path,)), None, lambda row: None, lambda done, total: None)
    same = dataclasses.asdict(here) | {"seconds": {}}
    assert dataclasses.asdict(there) | {"seconds": {}} == same and set(there.seconds) == set(here.seconds)
    for name in ("case_0.nii.gz", "case_0_probabilities.nii.gz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_the_kit_needs_no_network(order: Order) -> None:
    _, data = loaded(order)
    assert len(data) < 20_000  # plans and labels, no weights
    kit = pickle.loads(data)
    assert isinstance(kit, Kit) and kit.task.facts.pictures is False


def test_a_bad_scan_fails_alone_and_says_whether_this_node_sees_it(order: Order, scans: Path, tmp_path: Path) -> None:
    _, kit = loaded(order)
    (scans / "case_1.nii.gz").write_bytes(b"no scan")
    for name, unseen in (("case_1.nii.gz", False), ("elsewhere.nii.gz", True)):
        said, parcels = ended(read(kit, __version__, wanted(scans / name, tmp_path / "out")))
        assert not parcels and name in said[-1]["end"]["reason"] and said[-1]["end"]["unseen"] is unseen


def test_another_segpipe_is_refused_before_anything_is_done(order: Order, scans: Path, tmp_path: Path) -> None:
    _, kit = loaded(order)
    jobs = [
        Networks().load({"a field of": "the future"}, "99.0"),
        read(b"no kit", "99.0", wanted(scans / "case_0.nii.gz", tmp_path / "out")),
        write(kit, "99.0", None, {}),  # type: ignore[arg-type]
    ]
    for job in jobs:
        said, parcels = ended(job)
        assert not parcels and f"has segpipe {__version__}, the command 99.0" in said[-1]["refused"]["text"]
    check_version(__version__)


def test_a_folder_that_only_has_the_same_name_is_never_written_into(
    order: Order, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.inference.cluster.stages._SEE_SECONDS", 0.1)
    _, kit = loaded(order)
    told = wanted(scans / "case_0.nii.gz", tmp_path / "out") | {"probe": str(tmp_path / "out" / ".other")}
    for job in (read(kit, __version__, told), write(kit, __version__, None, told)):  # type: ignore[arg-type]
        said, _ = ended(job)
        assert said[-1]["refused"]["kind"] == "ConfigError" and "OUT must lie on a disk that all nodes share" in said[-1]["refused"]["text"]


def test_a_model_that_a_node_does_not_see_is_refused_with_its_name(order: Order) -> None:
    said, parcels = ended(Networks().load(dataclasses.asdict(order) | {"models": ["/none/model.ts"]}, __version__))
    assert not parcels and said[-1]["refused"]["kind"] == "ModelError"
    assert said[-1]["refused"]["text"].startswith("node ") and "/none/model.ts: no such file" in said[-1]["refused"]["text"]


def test_memory_that_is_full_is_no_bug() -> None:
    assert refusal(MemoryError("x"))["refused"]["kind"] == "MemoryError"
    assert refusal(ModelError("x"))["refused"]["kind"] == "ModelError"
    assert refusal(KeyError("x"))["refused"]["kind"] == "KeyError"


def test_files_are_written_under_the_name_that_was_given(
    order: Order, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = LocalFleet(order, nodes=1)
    token, seen = new_token(), []
    monkeypatch.setattr("segpipe.inference.segment.hashes", lambda files: seen.append(new_token()) or "x")
    told = wanted(scans / "case_0.nii.gz", tmp_path / "out")
    read_job = fleet.submit("read", **told)
    fleet.settle()
    compute = fleet.submit("compute", **told, actor=fleet.copies[0].number, of=read_job, seconds={})
    fleet.settle()
    row = row_to_json(pickle.loads(fleet.kit).task.row(Examination("case_0", (scans / "case_0.nii.gz",))))
    fleet.submit("write", **told, of=compute, row=row, before=None, token=token)
    fleet.settle()
    assert seen == [token] and new_token() != token


def test_a_disk_that_takes_nothing_ends_the_call(order: Order, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError):
        check_folder(tmp_path / "in" / "case_0.nii.gz" / "below")  # the reason that is sent is this one
    networks, kit = loaded(dataclasses.replace(order, out=str(tmp_path / "in" / "case_0.nii.gz" / "below")))
    told = wanted(scans / "case_1.nii.gz", tmp_path / "out")
    said, (ready,) = ended(read(kit, __version__, told))
    _, (restored,) = ended(networks.compute(travelled(ready), {**told, "seconds": {}}))
    row = said[-1]["end"]["row"]
    written, _ = ended(write(kit, __version__, travelled(restored), {**told, "row": row, "before": None, "token": new_token()}))
    assert written[-1]["refused"]["kind"] == "ConfigError" and "cannot be written" in written[-1]["refused"]["text"]
