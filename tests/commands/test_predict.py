"""segpipe predict, from model files to a closing table."""

from __future__ import annotations

import csv
import dataclasses
import os
import resource
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from rich.console import Console

from segpipe.commands.predict import PredictOptions, predict
from segpipe.errors import ConfigError, DataError, ModelError
from segpipe.geometry.grid import Grid, Volume
from segpipe.io.read import read_grid, read_volume
from segpipe.io.write import write_volume
from segpipe.network.build import build_network
from segpipe.package.export import export_model
from segpipe.package.model_file import load_model
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan
from tests.conftest import Run

DATA = Path(os.environ.get("SEGPIPE_DATA", Path(__file__).parents[3] / "shared" / "data"))
CPU = PredictOptions(device="cpu")


def untrained_model(path: Path, dims: int = 3, channels: tuple[str, ...] = ("MR",), **changes: Any) -> Path:
    """A small U-Net with random weights; `changes` go into the plan.

    Args:
        channels: `NAME`, or `NAME=WHICH` with the DICOM series that it was in the training.
    """
    spec = NetworkPlan("unet", (4, 8), ((3,) * dims,) * 2, ((1,) * dims, (2,) * dims))
    plan = Plan(
        task="test",
        dims=dims,
        channels=tuple(Channel(name.partition("=")[0], "zscore", series=name.partition("=")[2]) for name in channels),
        labels=(Label(0, 0, "background"), Label(1, 1, "one"), Label(2, 2, "two")),
        orient=True,
        axes=(0, 1, 2),
        spacing_mm=None,
        patch_size=(48, 48, 16) if dims == 3 else (128, 128, 1),
        batch_size=1,
        nonzero=False,
        flips=(True, True, True),
        network=spec,
    )
    plan = dataclasses.replace(plan, **changes)
    torch.manual_seed(0)
    export_model(build_network(spec, len(channels), 3, dims), plan, {}, path)
    return path


def printed(shown: list[Any]) -> str:
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    for item in shown:
        console.print(item)
    console.file.close()
    return console.export_text()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        array = rng.normal(size=(1, 12, 10, 8)).astype(np.float32)
        write_volume(tmp_path / "in" / f"{name}.nii.gz", Volume(array, Grid((12, 10, 8), np.eye(4))))
    return tmp_path / "in"


def test_exit_code_0_when_all_went_well_and_3_when_one_failed(source: Path, tmp_path: Path) -> None:
    model = untrained_model(tmp_path / "model.ts")
    done = predict([model], source, tmp_path / "out", CPU)
    assert done.exit_code == 0
    (source / "b.nii.gz").write_bytes(b"no scan")
    outcome = predict([model], source, tmp_path / "out", CPU)
    text = printed(outcome.shown)
    assert outcome.exit_code == 3
    assert "failed  b: " in text
    assert "b.nii.gz" in text
    (row,) = [line.split() for line in text.splitlines() if "│" in line]
    assert [cell for cell in row if cell.isdigit()] == ["0", "2", "1"]


def test_a_run_folder_stands_for_its_model_and_several_models_are_an_ensemble(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    models = [run, untrained_model(run / "model.ts")]
    assert predict(models, source, tmp_path / "out", CPU).exit_code == 0


def test_a_2d_and_a_3d_model_in_one_call_write_the_label_map_of_their_mean(tmp_path: Path, segpipe: Run) -> None:
    solid = untrained_model(tmp_path / "solid.ts", patch_size=(16, 16, 16), spacing_mm=(1.2, 1.1, 1.5))
    flat = untrained_model(tmp_path / "flat.ts", dims=2, axes=(1, 0, 2), patch_size=(16, 24, 1), nonzero=True)
    affine = np.diag([-1.0, 1.2, 1.5, 1.0])[[2, 0, 1, 3]]  # the file's axes run along y, z and back along x
    array = np.random.default_rng(0).normal(100, 20, (1, 30, 21, 25)).astype(np.float32)
    array[:, :3] = 0
    write_volume(tmp_path / "in/a.nii.gz", Volume(array, Grid((30, 21, 25), affine)))
    plain = ("--runtime", "torch", "--precision", "fp32")
    for models, out, options in (([solid], "solid", ["--probabilities"]), ([flat], "flat", ["--probabilities"])):
        assert segpipe("predict", *map(str, models), "in", out, *plain, *options).returncode == 0
    both = segpipe("predict", str(solid), str(flat), "in", "both", *plain, "--probabilities")
    assert both.returncode == 0, both.stderr
    assert segpipe("predict", str(solid), str(flat), "in", "labels", *plain, "--memory-gb", "2").returncode == 0
    shares = {name: read_volume(tmp_path / name / "a_probabilities.nii.gz") for name in ("solid", "flat", "both")}
    mean = (shares["solid"].array + shares["flat"].array) / 2
    assert np.abs(shares["both"].array - mean).max() < 1e-6
    ranked = np.sort(mean, axis=0)
    for name in ("both", "labels"):
        labels = read_volume(tmp_path / name / "a.nii.gz")
        assert labels.grid.same_as(Grid((30, 21, 25), affine))
        assert ((labels.array[0] == mean.argmax(axis=0)) | (ranked[-1] - ranked[-2] < 1e-6)).all()
    assert len(np.unique(labels.array)) == 3


def test_what_is_missing_is_named_with_its_exit_code(source: Path, tmp_path: Path) -> None:
    model = untrained_model(tmp_path / "model.ts")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no such file; give .* as NAME@VERSION"):
        predict([tmp_path / "none.ts"], source, tmp_path / "out", CPU)
    with pytest.raises(DataError, match="none"):
        predict([model], tmp_path / "none", tmp_path / "out", CPU)
    with pytest.raises(DataError, match="empty"):
        predict([model], tmp_path / "empty", tmp_path / "out", CPU)
    with pytest.raises(ConfigError, match="device"):
        predict([model], source, tmp_path / "out", PredictOptions(device="tpu"))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_config_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="finds no NVIDIA GPU"):
        predict([untrained_model(tmp_path / "model.ts")], source, tmp_path / "out", PredictOptions(device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_gives_the_label_maps_of_the_cpu(source: Path, tmp_path: Path, precision: Any) -> None:
    model = untrained_model(tmp_path / "model.ts", spacing_mm=(0.8, 0.8, 1.2))
    predict([model], source, tmp_path / "cpu", CPU)
    predict([model], source, tmp_path / "gpu", PredictOptions(device="cuda", precision=precision))
    for name in ("a", "b", "c"):
        same = read_volume(tmp_path / f"cpu/{name}.nii.gz").array == read_volume(tmp_path / f"gpu/{name}.nii.gz").array
        assert same.mean() > (0.99 if precision == "fp32" else 0.95)


REAL: list[tuple[str, list[str], dict[str, Any]]] = [
    ("Task04_Hippocampus/imagesTr", ["hippocampus_378.nii.gz", "hippocampus_075.nii.gz"], {"spacing_mm": (1.0, 1.0, 1.0)}),
    ("prostate_t2", [], {"spacing_mm": (1.5, 1.5, 3.0), "channels": ("T2",)}),
    ("prostate_t2", [], {"spacing_mm": (1.5, 1.5, 0.0), "dims": 2}),
    ("drive_retina_rgb", [], {"dims": 2, "orient": False, "channels": ("red", "green", "blue")}),
    ("brats_two_channel", [], {"spacing_mm": (4.0, 4.0, 4.0), "nonzero": True, "channels": ("flair", "t1c")}),
    ("nrrd_pairs", [], {"spacing_mm": (2.0, 2.0, 0.0)}),
]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real scans in {DATA} (set SEGPIPE_DATA)")
@pytest.mark.parametrize(("folder", "names", "changes"), REAL)
def test_label_maps_of_real_scans_lie_on_the_scans_grid(folder: str, names: list[str], changes: dict[str, Any], tmp_path: Path) -> None:
    scans = real_scans(DATA / folder, names, len(changes.get("channels", ("MR",))))
    for path in scans:
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / path.name).symlink_to(path.resolve())
    model = untrained_model(tmp_path / "model.ts", **changes)
    outcome = predict([model], tmp_path / "in", tmp_path / "out", PredictOptions(device="cpu", overlap=0.0))
    assert outcome.exit_code == 0, printed(outcome.shown)
    outputs = [path for path in (tmp_path / "out").iterdir() if path.suffix not in (".csv", ".json", ".sqlite")]
    assert outputs
    for path in outputs:
        scan = next(one for one in scans if one.name.startswith(path.name.split(".")[0]))
        assert read_grid(path).distance_mm(read_grid(scan)) < 1e-3
        assert set(np.unique(read_volume(path).array)) <= {0, 1, 2}


def real_scans(root: Path, names: list[str], channels: int) -> list[Path]:
    """The named files, or the first case found by its name."""
    if names:
        return [root / name for name in names]
    found = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    images = [path for path in found if path.name.endswith((".nii.gz", ".nrrd", ".tif")) and path.parent.name == "images"]
    return images[: 2 if channels == 2 else 1]


def test_swapped_model_and_scans_are_told_with_the_right_order(source: Path, tmp_path: Path) -> None:
    model = untrained_model(tmp_path / "run/model.ts")
    for given in (model, model.parent):
        with pytest.raises(ConfigError, match=rf"the order is MODEL IN OUT: segpipe predict {given} {source} "):
            predict([source], given, tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_the_closing_lines_tell_each_reason_and_only_what_is_there(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, out = untrained_model(tmp_path / "model.ts"), tmp_path / "out"
    good = (source / "a.nii.gz").read_bytes()
    for name in ("a", "b", "c"):
        (source / f"{name}.nii.gz").write_bytes(b"no scan")
    outcome = predict([model], source, out, CPU)
    assert outcome.shown[-1] == f"predictions.csv in {out}"
    assert "failed  a, b, c: " in printed(outcome.shown)  # one reason
    assert all(f"{name} failed" in caplog.messages for name in ("a", "b", "c"))
    (source / "a.nii.gz").write_bytes(good)
    for _ in ("done", "skipped"):
        assert predict([model], source, out, CPU).shown[-1] == f"label maps and predictions.csv in {out}"


def test_a_picture_format_for_a_model_of_volumes_is_a_config_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--format is png, a picture"):
        predict([untrained_model(tmp_path / "model.ts")], source, tmp_path / "out", PredictOptions(device="cpu", format="png"))
    assert not (tmp_path / "out").exists()


def test_bad_scans_are_told_by_file_cause_and_cure_and_leave_nothing(source: Path, tmp_path: Path) -> None:
    good = (source / "a.nii.gz").read_bytes()
    (source / "text.nii.gz").write_text("no scan")
    (source / "cut.nii.gz").write_bytes(good[: len(good) // 2])
    series = np.zeros((4, 4, 4, 30), dtype=np.float32)
    nib.save(nib.Nifti1Image(series, np.eye(4)), source / "series.nii.gz")
    flat = bytearray(nib.Nifti1Image(series[..., 0], np.eye(4)).to_bytes())
    flat[80:84], flat[252:256] = bytes(4), bytes([1, 0, 0, 0])  # pixdim[1] = 0, qform alone
    (source / "zero.nii").write_bytes(flat)
    write_volume(source / "thin.nii.gz", Volume(np.ones((1, 12, 10, 1), np.float32), Grid((12, 10, 1), np.eye(4))))
    nan = read_volume(source / "b.nii.gz")
    array = nan.array.copy()
    array[0, 0, 0, 0] = np.nan
    write_volume(source / "nan.nii.gz", Volume(array, nan.grid))
    outcome = predict([untrained_model(tmp_path / "model.ts")], source, tmp_path / "out", CPU)
    assert outcome.exit_code == 3
    told = {line.split()[1].rstrip(":"): line for line in outcome.shown if isinstance(line, str) and line.startswith("failed")}
    for name, what, cure in (
        ("text.nii.gz", "not compressed by gzip", "export it again"),
        ("cut.nii.gz", "cannot be read", "copy or export it again"),
        ("series.nii.gz", "time series of 30 volumes", "split it"),
        ("zero.nii", "spacing is (0.0", "repair the header"),
        ("nan.nii.gz", "1 NaN", "repair or leave out the scan"),
    ):
        line = told.pop(name.split(".")[0])
        assert str(source / name) in line and what in line and cure in line
    assert not told
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.nii.gz", "b.nii.gz", "c.nii.gz", "thin.nii.gz", "labels.json", "predictions.csv", "predictions.sqlite"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="an administrator may read everything")
def test_a_scan_that_may_not_be_read_is_told(source: Path, tmp_path: Path) -> None:
    (source / "a.nii.gz").chmod(0)
    outcome = predict([untrained_model(tmp_path / "model.ts")], source, tmp_path / "out", CPU)
    assert outcome.exit_code == 3
    assert "a.nii.gz: cannot be read: Permission denied" in printed(outcome.shown)
    assert read_volume(tmp_path / "out/b.nii.gz").grid.shape == (12, 10, 8)


def test_a_damaged_ledger_stops_before_anything_is_loaded_and_its_table_takes_its_place(source: Path, tmp_path: Path) -> None:
    model, out = untrained_model(tmp_path / "model.ts"), tmp_path / "out"
    predict([model], source, out, CPU)
    (out / "predictions.sqlite").write_bytes(b"no ledger")
    with pytest.raises(ConfigError, match=r"predictions\.sqlite: is damaged .*: delete it \(predictions\.csv beside it"):
        predict([model], source, out, CPU)
    (out / "predictions.sqlite").unlink()
    (row,) = [line.split() for line in printed(predict([model], source, out, CPU).shown).splitlines() if "│" in line]
    assert [cell for cell in row if cell.isdigit()] == ["0", "3", "0"]


@pytest.mark.skipif(os.name == "nt", reason="a limit of file size is POSIX")
def test_a_full_disk_stops_with_one_line_and_leaves_no_half_file(source: Path, tmp_path: Path) -> None:
    """A limit of file size stands for the disk: the system refuses to write on in the same way."""
    write_volume(source / "d.nii", Volume(np.ones((1, 80, 80, 80), np.float32), Grid((80, 80, 80), np.eye(4))))
    model = untrained_model(tmp_path / "model.ts")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))  # its label map has 512,000 bytes
    try:
        with pytest.raises(ConfigError, match=r"d\.nii: cannot be written \(File too large\).*raise the file size limit"):
            predict([model], source, tmp_path / "out", CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.nii.gz", "b.nii.gz", "c.nii.gz", "labels.json", "predictions.csv", "predictions.sqlite"}
    assert predict([model], source, tmp_path / "out", CPU).exit_code == 0


def test_a_worker_that_cannot_load_the_model_says_why_in_the_words_of_the_model(source: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ts").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ModelError, match=r"model\.ts is cut off: copy it again"):
        predict([tmp_path / "model.ts"], source, tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def flat_model(path: Path) -> Path:
    """Of a single stage, so that its code is soon built."""
    spec = NetworkPlan("unet", (4,), ((3,) * 3,), ((1,) * 3,), convolutions=1)
    model = load_model(untrained_model(path))
    export_model(build_network(spec, 1, 3, 3), dataclasses.replace(model.plan, network=spec, patch_size=(8, 8, 8)), {}, path)
    return path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("compiler")
def test_compiled_code_gives_the_label_maps_of_torch_and_is_told_in_the_table(segpipe: Any, source: Path, tmp_path: Path) -> None:
    model = str(flat_model(tmp_path / "model.ts"))
    words = ("predict", model, str(source), "out", "--device", "cpu", "--precision", "fp32")
    done = segpipe(*words, "--compile")
    assert done.returncode == 0, done.stderr
    assert f"{model} is compiled (" in done.stderr
    assert {row["options"] for row in rows(tmp_path / "out")} == {"overlap=0.5 precision=fp32 runtime=compiled"}
    again = segpipe(*words, "--runtime", "torch")  # what compiled code gave is not mixed with what torch gives
    assert again.returncode == 0, again.stderr
    assert {(row["status"], row["options"]) for row in rows(tmp_path / "out")} == {("done", "overlap=0.5 precision=fp32")}
    segpipe(*words[:3], "compiled", *words[4:], "--compile")
    for name in ("a", "b", "c"):
        same = read_volume(tmp_path / f"compiled/{name}.nii.gz").array == read_volume(tmp_path / f"out/{name}.nii.gz").array
        assert same.mean() > 0.999


def test_without_a_compiler_torch_computes_and_one_line_says_why(segpipe: Any, source: Path, tmp_path: Path) -> None:
    words = ("predict", str(flat_model(tmp_path / "model.ts")), str(source), "out", "--device", "cpu", "--precision", "fp32", "--compile")
    done = segpipe(*words, CXX=str(tmp_path / "g++"), TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "code"))
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if "compile" in line.lower()]
    assert line.startswith(f"warning: {tmp_path / 'model.ts'} is not compiled: InvalidCxxCompiler: ")
    assert {row["options"] for row in rows(tmp_path / "out")} == {"overlap=0.5 precision=fp32"}


def test_the_command_writes_dicom_objects_beside_the_label_maps_of_series(tmp_path: Path, segpipe: Run) -> None:
    pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'segpipe[dicom]'")
    from tests.dicom.series import Series, turned
    from tests.dicom.writing.given import faults, read, seg_on

    stored = np.random.default_rng(0).integers(0, 1000, (9, 20, 24)).astype(np.uint16)
    way = Series(stored=stored, size=(20, 24), heights=[2.5 * k for k in range(9)], axes=turned(11, -23, 31))
    way.write(tmp_path / "in" / "Secret^Name")
    model = untrained_model(tmp_path / "model.ts")
    words = ("--format", "dicom-seg,rtstruct", "--format", "sr,sc", "--series-description", "Prostate AI", "--series-number", "40")
    done = segpipe("predict", str(model), "in", "out", *words)
    assert done.returncode == 0, done.stderr
    assert "no code for one, two" in done.stderr
    assert "1.2.3." not in done.stdout + done.stderr
    (labels,) = (tmp_path / "out").glob("*.nii.gz")
    case = labels.name.removesuffix(".nii.gz")
    files = sorted((tmp_path / "out").glob("*.dcm"))
    assert [path.name for path in files] == [f"{case}_{end}.dcm" for end in ("rtstruct", "sc", "seg", "sr")]
    assert [faults(path) for path in files] == [[]] * 4
    assert sorted((read(path).SeriesNumber, read(path).SeriesDescription) for path in files)[0] == (40, "Prostate AI segmentation")
    assert all(b"Not for diagnosis" in path.read_bytes() for path in files)
    volume = read_volume(labels)
    found = seg_on(read(files[2]), volume.grid)
    nowhere = np.zeros(volume.grid.shape, dtype=bool)
    for number in (1, 2):
        assert np.array_equal(found.get(number, nowhere), volume.array[0] == number)
    again = segpipe("predict", str(model), "in", "out", *words)
    assert again.returncode == 0
    assert "skipped" in again.stdout
    refused = segpipe("predict", str(model), "in", "out2", "--format", "sr")
    assert (refused.returncode, "dicom-seg,sr" in refused.stderr) == (2, True)
    wrong = segpipe("predict", str(model), "in", "out2", "--format", "dicom-seg", "--seg-type", "fractional")
    assert (wrong.returncode, "must be one of binary, labelmap" in wrong.stderr) == (2, True)
    assert not (tmp_path / "out2").exists()
