"""What held-out cases decide, and that nothing is decided where there are none."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from segpipe.dataset.case import Case
from segpipe.dataset.split import Split, save_split
from segpipe.folds.choose import decide
from segpipe.folds.members import Member
from segpipe.geometry.grid import Volume
from segpipe.inference.postprocess import Rule
from segpipe.io.write import write_label_map, write_volume
from segpipe.package.export import export_model
from segpipe.plan.plan import Channel
from segpipe.settings import Settings
from tests.folds.test_candidates import Coordinates
from tests.folds.test_evidence import GRID, plan, truth


@pytest.mark.parametrize("held_out", [True, False])
def test_thresholds_come_before_post_processing_and_both_need_held_out_cases(
    tmp_path: Path, held_out: bool, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.where(truth() == 9, 4.0, np.where(truth() == 5, 2.0, 0.0)).astype(np.float32)[None]
    image[0, 17:19, 2, 2] = 2.0  # a false piece of organ
    image[0, 3:11, 3:11, 3] = 0.9  # and a faint side of it: the score of the organ is -0.1 there
    write_volume(tmp_path / "a.nii.gz", Volume(image, GRID))
    write_label_map(tmp_path / "a_label.nii.gz", truth(), GRID)
    case, member = Case("a", (tmp_path / "a.nii.gz",), tmp_path / "a_label.nii.gz"), Member(None, 0, "seed_0")
    root = member.root(tmp_path)
    root.mkdir()
    save_split(root / "splits.json", Split(("b",) if held_out else ("a",), ("a",), ""))
    export_model(Coordinates(1.0, 3.0, 1.0), dataclasses.replace(plan(), channels=(Channel("MR", "none"),)), {}, root / "model.ts")
    made = decide(tmp_path, [member], [case], Settings(device="cpu"))
    assert made.held_out == held_out
    if not held_out:
        assert made.chosen.offsets == () and made.chosen.rules == () and not made.moved and not made.rules
        assert "nothing was held out" in caplog.text
        return
    assert made.chosen.offsets[1] > 0.1 and made.chosen.offsets[2] == 0
    assert made.chosen.rules == (Rule(1, keep_largest=True),)
    assert made.found.pairs.matched[0].prediction == tmp_path / "out_of_fold/a.nii.gz"
