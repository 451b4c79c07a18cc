"""A folder of DICOM -> label maps on the scans' own grids, in the ledger like every scan."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from segpipe.commands.convert import convert
from segpipe.dicom.channels import Wanted
from segpipe.dicom.policy import Policy
from segpipe.errors import ConfigError, DataError
from segpipe.inference.folder import FolderOptions, predict_folder
from segpipe.inference.gather import Kinds, gather
from segpipe.inference.packing import scan_from_json, scan_to_json
from segpipe.inference.predictor import Predictor
from segpipe.inference.source import open_scan
from segpipe.inference.table import Row
from segpipe.io.read import read_volume
from segpipe.io.write import write_label_map
from segpipe.plan.plan import Channel
from tests.dicom.series import Made, Series, enhanced, furthest_mm, turned
from tests.dicom.test_real_series import upright

from .conftest import MakeModel, blocks, expected_labels

SHAPE = (13, 11, 9)


@pytest.fixture
def predictor(make_model: MakeModel) -> Predictor:
    return Predictor([make_model()])


def series(**more: Any) -> Series:
    """Blocks that the test's network finds, as slices."""
    stored = blocks(SHAPE)[0].T.astype(np.uint16)  # (K, rows, columns)
    return Series(**{"stored": stored, "size": stored.shape[1:], "heights": [2.5 * k for k in range(stored.shape[0])], **more})


def run(predictor: Predictor, source: Path, out: Path, **options: Any) -> dict[str, Row]:
    return {row.case: row for row in predict_folder(predictor, source, out, FolderOptions(**options))}


def labels_of(row: Row, out: Path) -> NDArray[Any]:
    return read_volume(out / row.output).array[0]


def test_a_series_gives_the_label_map_of_its_volume_in_its_place(predictor: Predictor, tmp_path: Path) -> None:
    made = series(axes=turned(0, 0, 12)).write(tmp_path / "in" / "Name^Of Patient")
    rows = run(predictor, tmp_path / "in", tmp_path / "out")
    (row,) = rows.values()
    assert row.status == "done"
    assert row.output == f"{row.case}.nii.gz"
    assert "Name" not in row.case
    assert np.array_equal(labels_of(row, tmp_path / "out"), expected_labels(blocks(SHAPE)))
    grid = read_volume(tmp_path / "out" / row.output).grid
    numbers = Made([], made.world, np.arange(made.stored.size).reshape(made.stored.shape))
    assert furthest_mm(numbers.stored.transpose(2, 1, 0)[None], grid, numbers) < 0.001


def test_the_same_scan_as_nifti_gives_the_same_labels(predictor: Predictor, tmp_path: Path) -> None:
    series(axes=turned(70, 20, -30), modality="MR").write(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "nifti", (), False)
    (one,) = run(predictor, tmp_path / "in", tmp_path / "out").values()
    (other,) = run(predictor, tmp_path / "nifti", tmp_path / "out2").values()
    assert one.case == other.case
    assert one.volumes_ml == pytest.approx(other.volumes_ml)
    assert np.array_equal(labels_of(one, tmp_path / "out"), labels_of(other, tmp_path / "out2"))
    assert (labels_of(one, tmp_path / "out") > 0).any()


@pytest.mark.parametrize("probabilities", [False, True])
def test_the_label_map_of_a_tilted_series_lies_on_its_slices(probabilities: bool, predictor: Predictor, tmp_path: Path) -> None:
    """Tilted by a whole pixel a slice, so that nothing is blended and the labels must be exact."""
    tilted = series(tilt=float(np.degrees(np.arctan(0.8 / 2.5))), digits=12)
    tilted.write(tmp_path / "in")
    (row,) = run(predictor, tmp_path / "in", tmp_path / "out", probabilities=probabilities).values()
    volume = read_volume(tmp_path / "out" / row.output)
    assert np.array_equal(volume.array[0], expected_labels(blocks(SHAPE)))
    assert np.allclose(volume.grid.world(np.array([0, 0, 8])), tilted.world()[8, 0, 0], atol=1e-3)
    voxels = int((volume.array == 10).sum())
    assert row.volumes_ml["organ"] == pytest.approx(voxels * 0.8 * 0.7 * 2.5 / 1000)
    assert "is tilted by 17.74 degrees" in row.warning
    if probabilities:
        shares = read_volume(tmp_path / "out" / f"{row.case}_probabilities.nii.gz")
        assert shares.array.shape[1:] == SHAPE
        assert shares.grid.same_as(volume.grid)
        assert np.array_equal(shares.array.argmax(axis=0) > 0, volume.array[0] > 0)


def test_refused_series_and_damaged_files_fail_alone_with_the_reason(predictor: Predictor, tmp_path: Path) -> None:
    series(seed=1, number=1).write(tmp_path / "in" / "good")
    series(seed=2, number=2, heights=[0, 2, 4, 6, 10, 12, 14, 16, 18]).write(tmp_path / "in" / "gap")
    made = series(seed=3, number=3).write(tmp_path / "in" / "bad")
    made.paths[0].write_bytes(made.paths[0].read_bytes()[:300])
    rows = run(predictor, tmp_path / "in", tmp_path / "out")
    reasons = {case.split("_")[-1]: (row.status, row.reason) for case, row in rows.items()}
    assert reasons["1"][0] == "done"
    assert reasons["2"][0] == "failed"
    assert "1 slice(s) are missing: 1 between" in reasons["2"][1]
    assert rows["bad/IM0000"].status == "failed"
    assert "bad/IM0000" in rows["bad/IM0000"].reason
    assert all("\n" not in row.reason for row in rows.values())


def test_a_series_that_is_done_is_skipped_until_one_of_its_files_changes(predictor: Predictor, tmp_path: Path) -> None:
    made = series().write(tmp_path / "in")
    (first,) = run(predictor, tmp_path / "in", tmp_path / "out").values()
    (again,) = run(predictor, tmp_path / "in", tmp_path / "out").values()
    assert (first.status, again.status) == ("done", "skipped")
    made.paths[4].rename(tmp_path / "in" / "renamed")
    (moved,) = run(predictor, tmp_path / "in", tmp_path / "out").values()
    assert moved.status == "skipped"
    stored = made.stored.copy()
    stored[4] = 0
    series(stored=stored).write(tmp_path / "in")
    (tmp_path / "in" / "renamed").unlink()
    (changed,) = run(predictor, tmp_path / "in", tmp_path / "out").values()
    assert changed.status == "done"
    assert not labels_of(changed, tmp_path / "out")[..., 4].any()


def test_a_label_map_that_was_corrected_by_hand_is_kept(predictor: Predictor, tmp_path: Path) -> None:
    series(tilt=12).write(tmp_path / "in")
    (row,) = run(predictor, tmp_path / "in", tmp_path / "out").values()
    volume = read_volume(tmp_path / "out" / row.output)
    corrected = volume.array[0].copy()
    corrected[0, 0, 0] = 10
    write_label_map(tmp_path / "out" / row.output, corrected, volume.grid)
    (again,) = run(predictor, tmp_path / "in", tmp_path / "out").values()
    assert again.status == "skipped"
    assert "kept" in again.reason
    assert np.array_equal(labels_of(again, tmp_path / "out"), corrected)


def test_archives_and_files_of_other_formats_may_lie_beside(predictor: Predictor, tmp_path: Path) -> None:
    made = series().write(tmp_path / "slices")
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "cd.zip", "w") as packed:
        for path in made.paths:
            packed.write(path, f"x/{path.name}")
    convert(tmp_path / "slices", tmp_path / "in" / "sub", (), False)
    rows = run(predictor, tmp_path / "in", tmp_path / "out")
    assert [row.status for row in rows.values()] == ["done", "done"]
    one, other = rows.values()
    assert np.array_equal(labels_of(one, tmp_path / "out"), labels_of(other, tmp_path / "out"))


def test_one_stack_of_a_multi_frame_file_is_read_alone(predictor: Predictor, tmp_path: Path) -> None:
    def weighted(n: int) -> Dataset:
        frame, diffusion = Dataset(), Dataset()
        diffusion.DiffusionBValue = float(800 * (n % 2))
        frame.MRDiffusionSequence = [diffusion]
        return frame

    stored = np.repeat(blocks(SHAPE)[0].T.astype(np.uint16), 2, axis=0)
    stored[1::2] = 0
    enhanced(series(modality="MR", stored=stored, heights=[2.5 * (n // 2) for n in range(18)]), tmp_path / "in" / "x", each=weighted)
    rows = run(predictor, tmp_path / "in", tmp_path / "out")
    b0, b800 = (next(row for case, row in rows.items() if case.endswith(end)) for end in ("_b0", "_b800"))
    assert np.array_equal(labels_of(b0, tmp_path / "out"), expected_labels(blocks(SHAPE)))
    assert not labels_of(b800, tmp_path / "out").any()


def test_the_policy_travels_with_the_scan(tmp_path: Path) -> None:
    series(heights=[0, 2, 4, 6, 10, 12, 14, 16, 18]).write(tmp_path / "in")
    (refused,) = gather(tmp_path / "in", tmp_path / "out", ["MR"])
    (taken,) = gather(tmp_path / "in", tmp_path / "out", ["MR"], kinds=Kinds(Policy(gap="resample")))
    assert "missing" in refused.problem
    assert not taken.problem
    assert scan_from_json(scan_to_json(taken)) == taken
    assert taken.slices is not None
    assert taken.slices.policy == "gap=resample"


def test_series_of_a_study_are_taken_together_where_it_is_said_which_is_which(tmp_path: Path) -> None:
    first = series(number=1, seed=1, more={"SeriesDescription": "t2_tra"})
    second = series(number=2, seed=2, more={"SeriesDescription": "adc"})
    for n, one in enumerate((first, second, series(number=9, seed=9))):
        one.write(tmp_path / "in" / str(n))
    wanted = (Wanted("adc", "adc"), Wanted("T2", "t2*"))
    (scan,) = gather(tmp_path / "in", tmp_path / "out", ["T2", "ADC"], kinds=Kinds(series=wanted))
    assert not scan.problem
    assert scan.slices is not None
    assert len(scan.slices.others) == 1
    assert len(scan.images) == 2
    assert scan_from_json(scan_to_json(scan)) == scan
    assert scan.case.endswith("_1")
    volume, _ = open_scan(scan)
    assert volume.channels == 2
    (missing,) = gather(tmp_path / "in", tmp_path / "out", ["T2", "DWI"], kinds=Kinds(series=(wanted[1], Wanted("DWI", "dwi*"))))
    assert "no series fits the channel 'DWI'" in missing.problem
    series(number=3, seed=3, more={"SeriesDescription": "adc"}).write(tmp_path / "in" / "more")
    (several,) = gather(tmp_path / "in", tmp_path / "out", ["T2", "ADC"], kinds=Kinds(series=wanted))
    assert "2 series of the study" in several.problem
    with pytest.raises(ConfigError, match="--series: names the channels adc; the model has T2, ADC"):
        gather(tmp_path / "in", tmp_path / "out", ["T2", "ADC"], kinds=Kinds(series=wanted[:1]))


def test_several_channels_are_refused_with_what_to_do(tmp_path: Path) -> None:
    series().write(tmp_path / "in")
    (scan,) = gather(tmp_path / "in", tmp_path / "out", ["T2", "ADC"])
    assert "segpipe convert" in scan.problem


def test_pictures_of_a_viewer_beside_dicom_are_no_scans_for_a_model_of_volumes(tmp_path: Path) -> None:
    series().write(tmp_path / "in" / "IMAGES")
    (tmp_path / "in" / "icon.png").write_bytes(b"\x89PNG")
    names = [[one.case for one in gather(tmp_path / "in", tmp_path / "out", ["MR"], kinds=Kinds(pictures=some))] for some in (False, True)]
    assert (len(names[0]), len(names[1])) == (1, 2)
    assert "icon" in names[1]


def test_what_is_left_out_is_told_and_a_folder_of_it_alone_holds_no_scan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    series(more={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(tmp_path / "in")
    with caplog.at_level("INFO"), pytest.raises(DataError, match="but no scan"):
        gather(tmp_path / "in", tmp_path / "out", ["T2"])
    assert "left out, a localizer: 9 file(s) or frame(s)" in caplog.text


def test_the_command_and_its_worker_do_the_same(make_model: MakeModel, tmp_path: Path, segpipe: Any) -> None:
    make_model()
    series(seed=1, number=1, tilt=15).write(tmp_path / "in" / "a")
    series(seed=2, number=2, heights=[0, 2, 4, 6, 10, 12, 14, 16, 18]).write(tmp_path / "in" / "b")
    words = ("predict", "models/model.ts", "in", "out", "--device", "cpu")
    run = segpipe(*words)
    assert run.returncode == 3, run.stderr
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = {row["case"].split("_")[-1]: row for row in csv.DictReader(file)}
    assert (rows["1"]["status"], rows["2"]["status"]) == ("done", "failed")
    assert "tilted by 15.00 degrees" in rows["1"]["warning"]
    assert "missing" in rows["2"]["reason"]
    again = segpipe(*words, "--policy", "gap=resample")
    assert again.returncode == 0, again.stderr
    assert read_volume(tmp_path / "out" / f"{rows['2']['case']}.nii.gz").grid.shape[2] == 10


@pytest.mark.parametrize("case", ["prostatex_0000", "prostatex_0001", "prostate3t_03_0001"])
def test_real_series_and_their_nifti_files_get_the_same_label_map(
    case: str, make_model: MakeModel, real_scans: Path, tmp_path: Path
) -> None:
    slices, file = real_scans / "prostate_t2" / "dicom" / case, real_scans / "prostate_t2" / "images" / f"{case}.nii.gz"
    if not slices.is_dir():
        pytest.skip(f"no {slices}")
    predictor = Predictor([make_model(channels=(Channel("T2", "zscore"),), patch_size=(192, 192, 16))])
    (one,) = run(predictor, slices, tmp_path / "a").values()
    (other,) = run(predictor, file, tmp_path / "b").values()
    mine, theirs = (upright(read_volume(tmp_path / name / row.output)) for name, row in (("a", one), ("b", other)))
    assert np.array_equal(mine.array, theirs.array)
    assert set(np.unique(mine.array)) == {0, 10, 255}
    assert mine.grid.distance_mm(theirs.grid) < 0.01
