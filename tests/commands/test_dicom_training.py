"""From folders of DICOM to a model and back to DICOM, through the program as it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml

from segpipe.dicom.annotation import read_annotation
from segpipe.dicom.terms import Term
from segpipe.io.read import read_volume
from tests.conftest import Run
from tests.dataset.test_dicom_meanings import GREEN, say
from tests.dicom.annotations import segmentation
from tests.dicom.examinations import study, write_study
from tests.dicom.test_meaning import LEFT, LIVER, TISSUE

SMALL = ("training.max_steps=12", "plan.patch_size=[16,16,8]", "training.overlays=0", "network.stages=2", "threads=1")
NAMES = ("PATIENT", "Secret", "SECRET", "t2_tse")


def told(folder: Path) -> str:
    """Every text file of a folder; DICOM results are the patient's own."""
    found = [
        path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".ts", ".ckpt", ".png", ".gz", ".sqlite", ".dcm")
    ]
    return b"\n".join(found).decode("utf-8", "ignore")


def test_a_model_is_trained_on_dicom_and_predicts_dicom(tmp_path: Path, segpipe: Run, forked: Run) -> None:
    for number in range(4):
        write_study(tmp_path / "data", number)
        say(tmp_path / "data" / f"study{number}" / "SEG.dcm", LIVER, LEFT, colour=GREEN)
    (tmp_path / "mine.yaml").write_text("name: balls\ndataset:\n  dicom:\n    labels: {shell: shell, core: 'number=2'}\n")
    words = ("conf=./mine.yaml", "dataset.layout=dicom", "dataset.root=data", *SMALL)
    planned = forked("plan", *words)
    assert planned.returncode == 0, planned.stderr
    run = forked("train", *words)
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "runs" / "balls"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert list(config["dataset"]["dicom"]["labels"].items()) == [("shell", "shell"), ("core", "number=2")]
    plan = json.loads((folder / "plan.json").read_text())
    assert [(label["value"], label["name"]) for label in plan["labels"][1:]] == [(1, "shell"), (2, "core")]
    assert "SCT 10200004 Liver" in " ".join(planned.stdout.split())
    predicted = segpipe("predict", str(folder / "model.ts"), "data", "out", "--format", "dicom-seg")
    assert predicted.returncode == 0, predicted.stderr
    for path in (tmp_path / "out").glob("*_seg.dcm"):
        shell = read_annotation(path).structures[0]
        assert shell.term == Term(TISSUE, LIVER, LEFT)
        assert shell.colour == read_annotation(tmp_path / "data" / "study0" / "SEG.dcm").structures[0].colour
    outputs = sorted((tmp_path / "out").glob("*.nii.gz"))
    assert len(outputs) == 4
    splits = json.loads((folder / "splits.json").read_text())
    assert {path.name.removesuffix(".nii.gz") for path in outputs} == {*splits["train"], *splits["validation"]}
    everything = told(folder) + told(tmp_path / "out") + run.stdout + run.stderr + predicted.stdout + predicted.stderr
    assert not [name for name in NAMES if name in everything]


def test_folds_of_two_channels_are_scored_on_the_scans_own_slices(tmp_path: Path, segpipe: Run, forked: Run) -> None:
    for number in range(4):
        made = write_study(tmp_path / "data", number, axes=((1.0, 0, 0), (0, 1.0, 0)), tilt=15.0)
        second = study(number, "adc", channel=1, axes=((1.0, 0, 0), (0, 1.0, 0)), tilt=15.0)
        second.series.write(tmp_path / "data" / f"study{number}" / "adc")
        assert made.masks.any()
    channels = 'dataset.dicom.series={T2: "t2*", ADC: "adc"}'
    run = forked("train", "dataset=dicom", "dataset.root=data", channels, "folds=all", "dataset.folds=2", "name=two", *SMALL)
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "runs" / "two"
    for truth in (folder / "out_of_fold_truth").iterdir():
        label, prediction = read_volume(truth), read_volume(folder / "out_of_fold" / truth.name)
        assert label.grid.same_as(prediction.grid)
        assert label.grid.shape == (22, 20, 12)
        assert set(np.unique(label.array)) == {0, 1, 2}
    predicted = segpipe("predict", str(folder / "model.ts"), "data", "out", "--series", "t2=t2*", "--series", "ADC=description=adc")
    assert predicted.returncode == 0, predicted.stderr
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4
    alone = segpipe("predict", str(folder / "model.ts"), "data", "out2")
    assert alone.returncode == 0, alone.stderr  # the model knows which series its channels were
    for path in (tmp_path / "out").glob("*.nii.gz"):
        assert np.array_equal(read_volume(tmp_path / "out2" / path.name).array, read_volume(path).array)
    wrong = segpipe("predict", str(folder / "model.ts"), "data", "out3", "--series", "T2=t2*")
    assert wrong.returncode == 2
    assert "--series: names the channels T2; the model has T2, ADC" in wrong.stderr


def test_inspect_tells_what_is_wrong_in_the_words_of_its_options(tmp_path: Path, forked: Run) -> None:
    for number in range(2):
        write_study(tmp_path / "data", number, kind="RTSTRUCT")
    labels = ("--dicom", "labels.whole=WHOLE", "--dicom", "labels.core=core")
    listed = forked("inspect", "data", *labels)
    assert "give --layout dicom to see what training would make of them" in " ".join(listed.stdout.split())
    refused = forked("inspect", "data", "--layout", "dicom", *labels, "--json", "audit.json")
    assert refused.returncode == 3
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert "--dicom overlap=later-wins" in audit["findings"][0]["what"]
    taken = forked("inspect", "data", "--layout", "dicom", *labels, "--dicom", "overlap=later-wins")
    assert taken.returncode == 0, taken.stdout
    assert "Training can start" in taken.stdout
    for words in (("--dicom", "labels=x"), ("--dicom", "overlap.x=1"), ("--dicom", "overlap=maybe"), ("--dicom", "policy=gap=never")):
        wrong = forked("inspect", "data", "--layout", "dicom", *words)
        assert wrong.returncode == 2, words
        assert wrong.stderr.startswith("error: ")


def test_a_training_does_not_start_with_the_segmentation_of_somebody_else(tmp_path: Path, forked: Run) -> None:
    for number in range(3):
        write_study(tmp_path / "data", number)
    segmentation(
        study(1).series, tmp_path / "data" / "study1" / "SEG.dcm", study(1).masks, ["shell", "core"], number=1, PatientID="SOMEONE"
    )
    run = forked("train", "dataset=dicom", "dataset.root=data", *SMALL)
    assert run.returncode == 3
    assert "another PatientID" in run.stderr
    assert "SOMEONE" not in run.stderr
