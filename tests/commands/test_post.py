"""What the table says of scans that were fetched, and what is kept of them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from segpipe.commands.closing import Closing
from segpipe.commands.post import Post
from segpipe.errors import DataError
from segpipe.inference.examination import Examination
from segpipe.inference.packing import scan_from_json, scan_to_json
from segpipe.inference.table import Row
from segpipe.pacs import exchange
from segpipe.pacs.exchange import Exchange
from segpipe.pacs.fetch import Fetched, Missing


def fetching(monkeypatch: pytest.MonkeyPatch, fetched: Fetched) -> None:
    """Instead of a server: the folders of what is fetched."""

    def fetch(web: object, place: object, spool: Path, patience: object) -> Fetched:
        for name in fetched.origins:
            (spool / name).mkdir()
        return fetched

    monkeypatch.setattr(exchange, "fetch", fetch)


def test_a_scan_that_was_fetched_is_told_by_its_series_and_what_failed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetching(monkeypatch, Fetched({name: f"dicomweb://pacs study 1 series {name}" for name in "abc"}, []))
    post = Post(Exchange(("dicomweb://pacs/studies/1.2",)), tmp_path, Closing())
    with post.scans(None) as spool:
        good, bad = Examination("A_1", (spool / "a",)), Examination("B_1", (spool / "b", spool / "c" / "x.dcm"))
        assert post.origin(good) == "dicomweb://pacs study 1 series a"
        assert post.origin(bad) == "dicomweb://pacs study 1 series b;dicomweb://pacs study 1 series c"
        post.each(Row("A_1", post.origin(good), "A_1.nii.gz", "done"))
        post.each(Row("B_1", post.origin(bad), "", "failed", "no"))
        assert stat.S_IMODE(spool.parent.stat().st_mode) == 0o700
    assert {path.name for path in spool.iterdir() if not path.name.startswith(".")} == {"b", "c"}


def test_a_series_of_an_earlier_call_that_cannot_be_fetched_now_is_not_segmented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Exchange(("dicomweb://pacs/studies/1.2",))
    fetching(monkeypatch, Fetched({"a": "series a"}, []))
    with pytest.raises(KeyboardInterrupt), Post(wanted, tmp_path, Closing()).scans(None):
        raise KeyboardInterrupt
    fetching(monkeypatch, Fetched({}, [Missing("a", "the server is busy")]))
    with pytest.raises(DataError, match="nothing could be fetched: the server is busy"), Post(wanted, tmp_path, Closing()).scans(None):
        pass


def test_the_origin_of_a_scan_travels_to_the_worker(tmp_path: Path) -> None:
    scan = Examination("A_1", (tmp_path / "a",), origin="dicomweb://pacs study 1 series a")
    assert scan_from_json(json.loads(json.dumps(scan_to_json(scan)))) == scan
    assert scan.input == "dicomweb://pacs study 1 series a"
    assert Examination("A_1", (tmp_path / "a", tmp_path / "b")).input == f"{tmp_path / 'a'};{tmp_path / 'b'}"
