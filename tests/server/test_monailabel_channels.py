"""Models of several channels through MONAI Label's protocol, which knows one file a scan: what it carries, and what it is told."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("fastapi")

from segpipe.geometry.grid import Volume
from segpipe.io.write import write_label_map, write_volume
from segpipe.package.export import export_model
from segpipe.plan.plan import Channel
from tests.bundle.conftest import PLAN, write_model
from tests.inference.conftest import Thresholds, blocks_volume, expected_labels
from tests.server.conftest import Server

VOLUME = blocks_volume(channels=2)
EXPECTED = expected_labels(VOLUME.array)
Sent = list[tuple[str, tuple[str, bytes]]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("channels")
    two = dataclasses.replace(PLAN, task="two", channels=(Channel("T2", "none"), Channel("ADC", "none")))
    export_model(Thresholds(), two, {}, folder / "two.ts")
    server = Server([folder / "two.ts"], folder / "data", folder / "log", "--corrections", str(folder / "corrections"))
    yield server
    assert server.stop() == 0, server.log.read_text()


def packed(folder: Path, *channels: int) -> bytes:
    """A file with these channels."""
    path = folder / "scan.nii.gz"
    write_volume(path, Volume(VOLUME.array[list(channels)], VOLUME.grid))
    return path.read_bytes()


def files_of(folder: Path, *order: int, field: str = "files") -> Sent:
    """One file a channel."""
    return [(field, (f"{('T2', 'ADC')[number]}.nii.gz", packed(folder, number))) for number in order]


def session(server: Server, files: Sent, **fields: str) -> str:
    answer = server.client.put("/session/", files=files, data=fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["session_id"])


def infer(server: Server, query: str, files: Sent | None = None, **fields: str) -> Any:
    return server.client.post(f"/infer/two?output=image&{query}", files=files or [("params", (None, b"{}"))], data=fields)


def labels_in(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(answer.content)).dataobj)


def line_of(answer: Any) -> str:
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    return str(answer.json()["error"])


def test_info_tells_which_channels_a_model_takes(server: Server) -> None:
    assert "Takes T2, ADC: one file with all of them in this order" in server.client.get("/info/").json()["models"]["two"]["description"]


def test_a_session_of_one_file_a_channel_gives_the_label_map(server: Server, tmp_path: Path) -> None:
    id = session(server, files_of(tmp_path, 0, 1))
    assert np.array_equal(labels_in(infer(server, f"session_id={id}")), EXPECTED)
    turned = session(server, files_of(tmp_path, 1, 0), channels='["adc", "T2"]')
    assert np.array_equal(labels_in(infer(server, f"session_id={turned}")), EXPECTED)
    unnamed = session(server, files_of(tmp_path, 1, 0))
    assert not np.array_equal(labels_in(infer(server, f"session_id={unnamed}")), EXPECTED)  # or the names above would say nothing
    for number in (0, 1):
        assert server.client.get(f"/session/{id}?image=true&channel={number}").content == packed(tmp_path, number)
    assert server.client.get(f"/session/{id}?image=true&channel=2").status_code == 404
    assert server.client.delete(f"/session/{id}").status_code == 200


def test_files_of_a_request_are_taken_by_the_names_of_their_channels(server: Server, tmp_path: Path) -> None:
    assert np.array_equal(labels_in(infer(server, "", files_of(tmp_path, 0, 1, field="file"))), EXPECTED)
    turned = infer(server, "", files_of(tmp_path, 1, 0, field="file"), channels='["ADC", "T2"]')
    assert np.array_equal(labels_in(turned), EXPECTED)


def test_one_file_with_all_channels_is_segmented_corrected_and_kept(server: Server, tmp_path: Path) -> None:
    put = server.client.put("/datastore/?image=pat 7", files=[("file", ("tmpx1.nii.gz", packed(tmp_path, 0, 1)))])
    assert put.status_code == 200, put.text
    labels = labels_in(infer(server, "image=pat 7"))
    assert np.array_equal(labels, EXPECTED)
    write_label_map(tmp_path / "drawn.nii.gz", np.where(labels == 10, 1, 0).astype(np.uint8), VOLUME.grid)
    params = json.dumps({"label_info": [{"name": "organ", "idx": 1}]})
    form: Any = [("label", ("drawn.nii.gz", (tmp_path / "drawn.nii.gz").read_bytes())), ("params", (None, params))]
    saved = server.client.put("/datastore/label?image=pat 7", files=form)
    assert saved.status_code == 200, saved.text
    case = saved.json()["label"]
    assert case.startswith("pat_7_")  # as its client calls it, not as Slicer's temporary file
    from segpipe.dataset.load import load_dataset
    from segpipe.settings import DatasetSettings

    [found] = load_dataset(DatasetSettings(root=str(server.data.parent / "corrections"))).cases
    assert (found.name, len(found.images)) == (case, 2)


def test_what_the_protocol_cannot_carry_is_told_in_one_line(server: Server, tmp_path: Path) -> None:
    one = session(server, files_of(tmp_path, 0))
    assert "has 1 channel(s); the model needs 2 (T2, ADC): send one file a channel" in line_of(infer(server, f"session_id={one}"))
    two = server.client.put("/datastore/?image=x", files=files_of(tmp_path, 0, 1, field="file"))
    assert "one file a channel make a session" in line_of(two)
    assert "must be one scan" in line_of(server.client.put("/session/", files=files_of(tmp_path, 0, 1, 1)))
    for names, why in (('["T2", "T1"]', "must name each channel of two once: T2, ADC"), ('["T2", "T2"]', "must name each")):
        wrong = session(server, files_of(tmp_path, 0, 1), channels=names)
        assert why in line_of(infer(server, f"session_id={wrong}"))
    for names in ("T2", '["T2"]', "[1, 2]", "[" * 5000):
        assert line_of(server.client.put("/session/", files=files_of(tmp_path, 0, 1), data={"channels": names})).startswith("channels: ")


def test_a_session_of_a_server_before_is_still_read(server: Server, tmp_path: Path) -> None:
    id = session(server, [("files", ("all.nii.gz", packed(tmp_path, 0, 1)))])
    for about in (server.data / "images").glob("*/about.json"):
        told = json.loads(about.read_text(encoding="utf-8"))
        about.write_text(json.dumps({key: value for key, value in told.items() if key not in ("more", "channels")}), encoding="utf-8")
    assert np.array_equal(labels_in(infer(server, f"session_id={id}")), EXPECTED)


def test_a_session_of_two_files_is_none_for_a_model_of_one_channel(tmp_path: Path) -> None:
    export_model(
        Thresholds(), dataclasses.replace(PLAN, task="two", channels=(Channel("A", "none"), Channel("B", "none"))), {}, tmp_path / "t.ts"
    )
    server = Server([write_model(tmp_path / "test.ts"), tmp_path / "t.ts"], tmp_path / "data", tmp_path / "log")
    try:
        id = session(server, files_of(tmp_path, 0, 1))
        answer = server.client.post(f"/infer/test?session_id={id}", files=[("params", (None, b"{}"))])
        assert "files: has 2; test takes 1" in line_of(answer)
    finally:
        assert server.stop() == 0
