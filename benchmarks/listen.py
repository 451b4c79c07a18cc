"""Send many series to a node by several senders at once, kill the node while it works, and count what a PACS has at the end.

    python benchmarks/listen.py --series 200 --senders 4 --kills 2 --to dicomweb --out listen.json

The PACS is a real Orthanc on this machine, the series are small and synthetic, the network is untrained, and each result is the
DICOM segmentation that predict writes. Each kill is SIGKILL to the command alone, at a random moment, after which it is
started again. In the end every series must have its result there once, with the label map of an undisturbed call, and the node must
have kept nothing. What was sent twice under one UID, because an answer was lost and the PACS did not yet have it, is counted too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.commands.test_predict import untrained_model
from tests.pacs.drill import Drill, run, surroundings
from tests.pacs.orthanc import Orthanc, why_not


def undisturbed(model: Path, folder: Path) -> set[str]:
    """The results' UIDs that one call of `predict` makes of the same series."""
    words = [sys.executable, "-m", "segpipe", "--quiet", "predict", str(model), str(folder / "made"), str(folder / "alone")]
    # without a destination nothing asks for the objects: one that nobody answers at, tried once
    words += ["--to", "dicomweb://127.0.0.1:9/none", "--tries", "1", "--device", "cpu", "--threads", "1"]
    subprocess.run(words, env=surroundings(), capture_output=True, check=False)
    with contextlib.closing(sqlite3.connect(folder / "alone" / "deliveries.sqlite")) as outbox:
        return {uid for (uid,) in outbox.execute("SELECT instance FROM deliveries")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", choices=("dicomweb", "dicom"), default="dicom")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    if why_not():
        raise SystemExit(why_not())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = untrained_model(folder / "model.ts", patch_size=(8, 8, 8))
        orthanc = Orthanc(folder / "orthanc").start()
        try:
            to = orthanc.web if words.to == "dicomweb" else orthanc.node
            report = run(Drill(words.series, words.senders, words.kills, seed=words.seed), model, orthanc, folder, surroundings(), to)
            found = Counter(tags["SOPInstanceUID"] for tags in orthanc.tags())
        finally:
            orthanc.stop()
        with contextlib.closing(sqlite3.connect(folder / "out" / "deliveries.sqlite")) as outbox:
            again = outbox.execute("SELECT COUNT(*) FROM deliveries WHERE tries > 1").fetchone()[0]
        result = {
            **vars(words),
            "out": None,
            "seconds": round(report.seconds, 1),
            "killed_at": [round(second, 1) for second in report.kills],
            "series_with_one_result": sum(count == 1 for count in report.found.values()),
            "series_with_more": sum(count > 1 for count in report.found.values()),
            "as_undisturbed": set(found) == undisturbed(model, folder),
            "taken_up_again": again,
            "left_in_the_node": len(report.left),
        }
    for key, value in result.items():
        print(f"{key:24} {value}")
    if words.out:
        words.out.write_text(json.dumps(result, indent=1) + "\n")
    if result["series_with_one_result"] != words.series or result["series_with_more"] or not result["as_undisturbed"] or report.left:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
