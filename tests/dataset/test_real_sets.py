"""The real data sets pass the audit as they lie there; nobody has tuned them."""

from dataclasses import replace
from pathlib import Path

import pytest

from segpipe.dataset.audit import audit, can_train
from segpipe.dataset.case import DataSet
from segpipe.dataset.facts import CaseFacts
from segpipe.dataset.finding import Finding
from segpipe.dataset.fingerprint import Fingerprint, fingerprint
from segpipe.dataset.load import load_dataset
from segpipe.dataset.measure import measure
from segpipe.dataset.split import keep_together, make_split
from segpipe.errors import DataError
from segpipe.settings import DatasetSettings


def looked_at(root: Path, **values: object) -> tuple[DataSet, list[CaseFacts], list[Finding], Fingerprint]:
    if not root.is_dir():
        pytest.skip(f"{root} is absent")
    data = load_dataset(replace(DatasetSettings(root=str(root)), **values))
    facts = measure(data)
    return data, facts, audit(data, facts), fingerprint(data, facts)


def test_hippocampus_has_208_clean_cases_of_1_mm(real_sets: Path) -> None:
    data, _, findings, print_ = looked_at(real_sets / "Task04_Hippocampus")
    assert (data.layout, print_.cases, findings) == ("msd", 208, [])
    assert print_.label_names == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert print_.channels[0].name == "MRI"
    assert set(print_.spacings_mm) == {(1.0, 1.0, 1.0)}


def test_prostate_asks_for_the_label_folder(real_sets: Path) -> None:
    with pytest.raises(DataError, match="whole_gland, zones_pz_tz"):
        looked_at(real_sets / "prostate_t2")
    _, _, findings, print_ = looked_at(real_sets / "prostate_t2", images="images", labels="zones_pz_tz")
    assert (findings, print_.shapes[0], print_.label_values) == ([], (384, 384, 19), (0, 1, 2))
    assert print_.spacings_mm[0] == pytest.approx((0.5, 0.5, 3.0), abs=1e-4)


def test_pictures_have_masks_of_0_and_255(real_sets: Path) -> None:
    _, _, findings, membrane = looked_at(real_sets / "isbi2012_membrane")
    assert (findings, membrane.picture, membrane.cases, membrane.label_values) == ([], True, 20, (0, 255))
    _, _, findings, retina = looked_at(real_sets / "drive_retina_rgb")
    assert (findings, retina.picture, retina.cases, retina.label_values) == ([], True, 6, (0, 255))
    assert [channel.name for channel in retina.channels] == ["red", "green", "blue"]


def test_brats_has_two_channels_and_float_labels(real_sets: Path) -> None:
    data, _, findings, print_ = looked_at(real_sets / "brats_two_channel")
    assert (findings, data.channels, print_.label_values) == ([], ("flair", "t1c"), (0, 1, 2, 3, 4))
    assert len(print_.channels) == 2


def test_the_spinal_cord_set_holds_one_scan_twice_and_a_split_keeps_it_together(real_sets: Path) -> None:
    data, facts, findings, _ = looked_at(real_sets / "spinal_cord")
    assert [(finding.severity, finding.case, finding.what.split(":")[0]) for finding in findings] == [
        ("warning", "mt1_gm", "duplicate content"),
        ("warning", "", "several cases seem to be of one patient (sub-unf01), but no groups are given"),
    ]
    assert "but the label maps differ" in findings[0].what  # the cord of the one scan, and its grey matter
    for seed in range(10):
        split = make_split(keep_together(data.cases, facts), DatasetSettings(fraction=0.4), seed)
        assert len({"mt1_cord", "mt1_gm"} & set(split.validation)) in (0, 2)


@pytest.mark.parametrize("name", ["nrrd_pairs", "spleen_ct_crop"])
def test_other_formats_pass(real_sets: Path, name: str) -> None:
    _, _, findings, print_ = looked_at(real_sets / name)
    assert can_train(findings)
    assert print_.label_values == (0, 1)
