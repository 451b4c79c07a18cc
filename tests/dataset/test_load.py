"""Every layout gives the same cases, and says what is missing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.dataset.load import load_dataset
from segpipe.errors import ConfigError, DataError, SegpipeError
from segpipe.settings import DatasetSettings

Write = Callable[..., Path]
SCAN = np.zeros((2, 2, 2), np.uint8)


def settings(root: Path, **values: object) -> DatasetSettings:
    return replace(DatasetSettings(root=str(root)), **values)


def test_msd_lists_pairs_names_and_channels(tmp_path: Path, write: Write) -> None:
    for name in ("h_001", "h_002"):
        write(tmp_path / "imagesTr" / f"{name}.nii.gz", SCAN)
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", SCAN)
    write(tmp_path / "imagesTr" / "not_listed.nii.gz", SCAN)
    training = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in ("h_002", "h_001")]
    values = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior"},
        "training": training,
        "test": ["./imagesTs/x.nii.gz"],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    data = load_dataset(settings(tmp_path))
    assert (data.layout, [case.name for case in data.cases], data.channels) == ("msd", ["h_001", "h_002"], ("MRI",))
    assert data.label_names == {0: "background", 1: "Anterior"}
    assert not data.findings
    (tmp_path / "labelsTr" / "h_001.nii.gz").unlink()
    missing = load_dataset(settings(tmp_path)).findings
    assert [(finding.severity, finding.case, Path(finding.file).name) for finding in missing] == [("error", "h_001", "h_001.nii.gz")]
    assert "dataset.json" in missing[0].cure


@pytest.mark.parametrize("described", [True, False])
def test_nnunet_finds_channels_by_number(tmp_path: Path, write: Write, described: bool) -> None:
    for name in ("p_01", "p_02"):
        for channel in ("0000", "0001"):
            write(tmp_path / "imagesTr" / f"{name}_{channel}.nii.gz", SCAN)
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", SCAN)
    if described:
        values = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "PZ": 1, "TZ": 2}, "file_ending": ".nii.gz"}
        (tmp_path / "dataset.json").write_text(json.dumps(values))
    data = load_dataset(settings(tmp_path))
    assert data.layout == "nnunet"
    assert data.channels == (("T2", "ADC") if described else ("channel 0", "channel 1"))
    assert data.label_names == ({0: "background", 1: "PZ", 2: "TZ"} if described else {})
    assert [path.name for path in data.cases[1].images] == ["p_02_0000.nii.gz", "p_02_0001.nii.gz"]
    (tmp_path / "imagesTr" / "p_02_0001.nii.gz").unlink()
    write(tmp_path / "imagesTr" / "odd.nii.gz", SCAN)
    broken = load_dataset(settings(tmp_path))
    assert [case.name for case in broken.cases] == ["p_01"]
    assert sorted(Path(finding.file).name for finding in broken.findings) == ["odd.nii.gz", "p_02_0001.nii.gz"]


def test_the_older_nnunet_layout_with_pairs_in_dataset_json_is_found(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "imagesTr" / "p_0000.nii.gz", SCAN)
    write(tmp_path / "labelsTr" / "p.nii.gz", SCAN)
    values = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver"},
        "training": [{"image": "./imagesTr/p.nii.gz", "label": "./labelsTr/p.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    data = load_dataset(settings(tmp_path))
    assert (data.layout, data.channels, [case.name for case in data.cases], data.findings) == ("nnunet", ("CT",), ["p"], ())


def test_nnunet_may_list_its_cases_and_regions_are_named_value_by_value(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a" / "x.nii.gz", SCAN)
    write(tmp_path / "b" / "y.nii.gz", SCAN)
    values = {
        "dataset": {"one": {"images": ["a/x.nii.gz"], "label": "b/y.nii.gz"}},
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    data = load_dataset(settings(tmp_path))
    assert [case.name for case in data.cases] == ["one"]
    assert data.label_names == {0: "background", 1: "label 1", 2: "core"}
    assert data.ignore == (3,)
    assert [finding.severity for finding in data.findings] == ["warning"]  # of the region; voxels to ignore can be trained around


def test_nnunet_files_of_one_case_in_two_formats_are_errors(tmp_path: Path, write: Write) -> None:
    for name in ("imagesTr/p_0000.nii", "imagesTr/p_0000.nii.gz", "labelsTr/p.nii", "labelsTr/p.nii.gz"):
        write(tmp_path / name, SCAN)
    findings = load_dataset(settings(tmp_path)).findings
    assert [(finding.severity, finding.case) for finding in findings] == [("error", "p")] * 2
    assert "p_0000.nii and" in findings[0].what and "p.nii and" in findings[1].what


def test_a_pattern_that_makes_one_case_of_two_scans_is_an_error_that_names_both(tmp_path: Path, write: Write) -> None:
    for name in ("images/pat0_visit1", "images/pat0_visit2", "labels/pat0_visit1"):
        write(tmp_path / f"{name}.nii.gz", SCAN)
    data = load_dataset(settings(tmp_path, pattern=r"(?P<case>pat\d+)_.*"))
    assert [path.name for path in data.cases[0].images] == ["pat0_visit1.nii.gz"]
    (finding,) = data.findings
    assert (finding.severity, finding.case, Path(finding.file).name) == ("error", "pat0", "pat0_visit2.nii.gz")
    assert "pat0_visit1.nii.gz and" in finding.what
    assert "dataset.pattern" in finding.cure


def test_two_folders_pair_by_name_whatever_the_format(tmp_path: Path) -> None:
    for folder, ending in (("images", "tif"), ("labels", "png")):
        (tmp_path / folder).mkdir()
        for name in ("21", "22"):
            Image.fromarray(SCAN[0]).save(tmp_path / folder / f"{name}.{ending}")
    data = load_dataset(settings(tmp_path))
    assert (data.layout, [case.name for case in data.cases], data.channels) == ("folders", ["21", "22"], ("image",))
    assert not data.findings


def test_common_endings_are_channels_in_the_order_that_is_asked_for(tmp_path: Path, write: Write) -> None:
    for name in ("pat_1", "pat_2"):
        for channel in ("flair", "t1c"):
            write(tmp_path / "images" / f"{name}_{channel}.nii.gz", SCAN)
        write(tmp_path / "labels" / f"{name}.nii.gz", SCAN)
    data = load_dataset(settings(tmp_path))
    assert (data.channels, [path.name for path in data.cases[0].images]) == (("flair", "t1c"), ["pat_1_flair.nii.gz", "pat_1_t1c.nii.gz"])
    turned = load_dataset(settings(tmp_path, channels=["T1C", "FLAIR"]))
    assert turned.channels == ("T1C", "FLAIR")
    assert [path.name for path in turned.cases[0].images] == ["pat_1_t1c.nii.gz", "pat_1_flair.nii.gz"]
    (tmp_path / "images" / "pat_2_t1c.nii.gz").unlink()
    (finding,) = load_dataset(settings(tmp_path)).findings
    assert "channel 't1c' is missing" in finding.what
    assert finding.file.endswith("pat_2_t1c.nii.gz")


def test_missing_partners_are_findings_with_the_path_that_is_expected(pairs: Callable[..., Path]) -> None:
    root = pairs(3)
    (root / "labels" / "a.nii.gz").unlink()
    (root / "images" / "b.nii.gz").unlink()
    data = load_dataset(settings(root))
    assert [(case.name, case.label is None) for case in data.cases] == [("a", True), ("c", False)]
    assert [(f.severity, f.case, f.file) for f in data.findings] == [
        ("error", "a", str(root / "labels" / "a.nii.gz")),
        ("error", "b", str(root / "images" / "b.nii.gz")),
    ]


def test_several_label_folders_are_named_and_not_guessed(tmp_path: Path, write: Write) -> None:
    for folder in ("images", "whole_gland", "zones"):
        write(tmp_path / folder / "p.nii.gz", SCAN)
    write(tmp_path / "unrelated" / "q.nii.gz", SCAN)
    with pytest.raises(DataError, match=r"whole_gland, zones; choose one with dataset\.labels="):
        load_dataset(settings(tmp_path))
    data = load_dataset(settings(tmp_path, labels="zones"))
    assert data.cases[0].label == tmp_path / "zones" / "p.nii.gz"
    with pytest.raises(ConfigError, match=r"dataset\.labels is 'zonse'.*unrelated, whole_gland, zones"):
        load_dataset(settings(tmp_path, labels="zonse"))


@pytest.mark.parametrize("text", ['{"0": "background", "1": "PZ", "2": "TZ"}', '{"background": 0, "labels": {"1": "PZ", "2": "TZ"}}'])
def test_labels_json_beside_two_folders_names_the_labels(pairs: Callable[..., Path], text: str) -> None:
    root = pairs()
    (root / "labels.json").write_text(text)
    data = load_dataset(settings(root))
    assert not data.findings
    assert {value: name for value, name in data.label_names.items() if value} == {1: "PZ", 2: "TZ"}
    assert load_dataset(settings(root, label_names={"2": "whole"})).label_names[2] == "whole"


@pytest.mark.parametrize("text", ["", "[{}]", '"PZ"', '{"images": [{"id": 7}]}', '{"labels": {"a": "b"}}'])
def test_a_labels_json_of_somebody_else_is_told_and_the_labels_keep_their_numbers(pairs: Callable[..., Path], text: str) -> None:
    root = pairs()
    (root / "labels.json").write_text(text)
    data = load_dataset(settings(root))
    assert data.label_names == {}
    assert [(finding.severity, finding.file) for finding in data.findings] == [("warning", str(root / "labels.json"))]
    assert "labels keep their numbers" in data.findings[0].what


def test_the_only_folder_with_matching_names_holds_the_labels(tmp_path: Path, write: Write) -> None:
    for folder in ("images", "drawn_by_me"):
        write(tmp_path / folder / "sub" / "p.nii.gz", SCAN)
    data = load_dataset(settings(tmp_path))
    assert [case.name for case in data.cases] == ["sub_p"]
    assert data.cases[0].label == tmp_path / "drawn_by_me" / "sub" / "p.nii.gz"


def test_one_name_with_two_extensions_is_a_finding(pairs: Callable[..., Path], write: Write) -> None:
    root = pairs(2)
    write(root / "images" / "a.nii", SCAN)
    (finding,) = load_dataset(settings(root)).findings
    assert (finding.severity, finding.case) == ("error", "a")
    assert "a.nii and a.nii.gz" in finding.what or "a.nii.gz and a.nii" in finding.what


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_manifest_gives_channels_groups_and_folds(tmp_path: Path, write: Write, delimiter: str) -> None:
    for name in ("t2", "adc", "seg"):
        write(tmp_path / "x" / f"{name}.nii.gz", SCAN)
    rows = [
        ["Case", "image_T2", "image_ADC", "label", "group", "fold"],
        ["p1", "x/t2.nii.gz", "x/adc.nii.gz", "x/seg.nii.gz", "anna", "0.0"],
        ["p2", "x/t2.nii.gz", str(tmp_path / "x" / "adc.nii.gz"), "", "bob", ""],
    ]
    path = tmp_path / "manifest.csv"
    path.write_text("\ufeff" + "\r\n".join(delimiter.join(row) for row in rows) + "\r\n\r\n", encoding="utf-8")
    for root in (tmp_path, path):
        data = load_dataset(settings(root))
        assert (data.layout, data.channels, data.findings) == ("manifest", ("t2", "adc"), ())
        assert [(case.name, case.group, case.fold, case.label is None) for case in data.cases] == [
            ("p1", "anna", 0, False),
            ("p2", "bob", None, True),
        ]
        assert [image.is_file() for case in data.cases for image in case.images] == [True] * 4


def test_a_json_manifest_may_name_labels(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "t2.nii.gz", SCAN)
    values = {"labels": {"PZ": 1}, "cases": [{"image": ["t2.nii.gz", "t2.nii.gz"], "label": "t2.nii.gz", "fold": 1}]}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(values))
    data = load_dataset(settings(path))
    assert (data.cases[0].name, len(data.cases[0].images), data.cases[0].fold) == ("t2", 2, 1)
    assert (data.label_names, data.channels) == ({1: "PZ"}, ("channel 0", "channel 1"))


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_numbered_channels_of_a_manifest_are_in_the_order_of_their_numbers(tmp_path: Path, write: Write, ending: str) -> None:
    files = {column: str(write(tmp_path / f"{column}.nii.gz", SCAN)) for column in ("image_adc", "image_10", "image_2", "image", "label")}
    path = tmp_path / f"manifest.{ending}"
    text = json.dumps([{"case": "p", **files}]) if ending == "json" else f"case,{','.join(files)}\np,{','.join(files.values())}\n"
    path.write_text(text)
    data = load_dataset(settings(tmp_path))
    assert [image.name.removesuffix(".nii.gz") for image in data.cases[0].images] == ["image", "image_2", "image_10", "image_adc"]
    assert data.channels == ("channel 0", "channel 1", "channel 2", "adc")


@pytest.mark.parametrize("ending", ["csv", "json"])
@pytest.mark.parametrize(
    ("column", "severity", "cure"),
    [
        ("patient", "error", "rename it to group"),
        ("Patient_ID", "error", "rename it to group"),
        ("subject", "error", "rename it to group"),
        ("groups", "error", "rename it to group"),
        ("split", "error", "rename it to fold"),
        ("folds", "error", "rename it to fold"),
        ("age", "warning", "take it out"),
        ("folder", "warning", "take it out"),
    ],
)
def test_a_column_that_is_not_read_is_told(tmp_path: Path, write: Write, ending: str, column: str, severity: str, cure: str) -> None:
    write(tmp_path / "a.nii.gz", SCAN)
    row = {"case": "p", "image": "a.nii.gz", "label": "a.nii.gz", column: "1"}
    text = json.dumps([row]) if ending == "json" else f"{','.join(row)},\n{','.join(row.values())},\n"  # a last comma is no column
    (tmp_path / f"manifest.{ending}").write_text(text)
    (finding,) = load_dataset(settings(tmp_path)).findings
    assert finding.severity == severity
    assert f"the column {column.lower()!r} is not read" in finding.what
    assert cure in finding.cure


def test_a_patient_column_beside_a_group_is_no_error(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.nii.gz", SCAN)
    (tmp_path / "manifest.csv").write_text("case,image,label,patient,group\np,a.nii.gz,a.nii.gz,anna,site 1\n")
    assert [finding.severity for finding in load_dataset(settings(tmp_path)).findings] == ["warning"]
    (tmp_path / "manifest.csv").write_text("case,image,label,patient\np,a.nii.gz,a.nii.gz,anna\n")
    assert [finding.severity for finding in load_dataset(settings(tmp_path, group="(.+)")).findings] == ["warning"]


def test_a_manifest_row_with_a_missing_file_names_file_and_line(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.nii.gz", SCAN)
    (tmp_path / "manifest.csv").write_text("case,image,label\np1,a.nii.gz,a.nii.gz\np2,b.nii.gz,a.nii.gz\np1,a.nii.gz,a.nii.gz\n")
    data = load_dataset(settings(tmp_path))
    assert [case.name for case in data.cases] == ["p1"]
    twice, missing = data.findings
    assert "occurs 2 times" in twice.what
    assert (missing.case, missing.file) == ("p2", str(tmp_path / "b.nii.gz"))
    assert "manifest.csv line 3" in missing.cure


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,label\np1,a\n", "no column 'image'"),
        ("case,image\np1,a\n", "no column 'label'"),
        ("case,image,label\n", "lists no case"),
        ("", "lists no case"),
        ("case,image,label,fold\np,a,b,first\n", "line 2 has the fold 'first'"),
        ("case,image,label,fold\np,a,b,-1\n", "whole number from 0"),
        ("case,image,label\np,a,b,c\n", "more values than the header"),
        ("case,image,label\n,,b\n", "neither case nor image"),
    ],
)
def test_a_broken_manifest_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(settings(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"training": [3], "labels": {}}', "training entry 3"),
        ('{"training": [{"image": "a.nii", "label": "b.nii"}], "labels": {"one": "two"}}', "must be a whole number"),
        ('{"training": [{"image": "a.nii", "label": "b.nii"}], "labels": 3}', "labels are 3"),
        ('{"training": [{"image": "a.nii", "label": "b.nii"}], "modality": {"a": "CT"}}', "channels are"),
    ],
)
def test_a_broken_dataset_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(settings(tmp_path, layout="msd"))


def test_groups_come_from_the_case_name(pairs: Callable[..., Path]) -> None:
    root = pairs(3)
    data = load_dataset(settings(root, group="([ab])"))
    assert [case.group for case in data.cases] == ["a", "b", ""]
    assert [(finding.severity, finding.case) for finding in data.findings] == [("warning", "c")]
    for pattern in ("(", "a"):
        with pytest.raises(ConfigError, match=r"dataset\.group"):
            load_dataset(settings(root, group=pattern))


def test_a_patient_that_the_manifest_puts_into_two_groups_is_an_error(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.nii.gz", SCAN)
    lines = ["case,image,label,group", *(f"pat1_{visit},a.nii.gz,a.nii.gz,{group}" for visit, group in ((1, "A"), (2, "B")))]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    findings = load_dataset(settings(tmp_path, group=r"(pat\d+)_")).findings
    assert [finding.severity for finding in findings] == ["error", "error"]
    assert "groups A and B" in findings[0].what


def test_names_in_the_settings_win(pairs: Callable[..., Path]) -> None:
    root = pairs(1)
    data = load_dataset(settings(root, channels=["CT"], label_names={"2": "tumour", "1": "liver"}))
    assert (data.channels, data.label_names) == (("CT",), {1: "liver", 2: "tumour"})
    with pytest.raises(ConfigError, match="label_names has the key 'liver'"):
        load_dataset(settings(root, label_names={"liver": "1"}))


def test_what_cannot_be_a_data_set_is_refused_in_one_line(tmp_path: Path, pairs: Callable[..., Path]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "readme.txt").write_text("x")
    (empty / "images").mkdir()
    cases = [
        (DatasetSettings(), "dataset.root is empty"),
        (settings(tmp_path / "nowhere"), "does not exist"),
        (settings(empty), "no image folder with scans"),
        (settings(empty / "images"), "holds nothing; must hold"),
        (settings(tmp_path / "readme.txt"), "is no manifest"),
        (settings(tmp_path, layout="nnunet"), "no folder imagesTr"),
        (settings(tmp_path, layout="msd"), "has no dataset.json"),
        (settings(tmp_path, layout="manifest"), "holds neither manifest.csv nor manifest.json"),
        (settings(tmp_path / "readme.txt", layout="msd"), "is a file"),
    ]
    for wanted, message in cases:
        with pytest.raises(SegpipeError) as caught:
            load_dataset(wanted)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_names_that_pair_nothing_are_shown(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "images" / "one.nii.gz", SCAN)
    write(tmp_path / "labels" / "two.nii.gz", SCAN)
    with pytest.raises(DataError, match=r"image 'one', label 'two'.*dataset\.pattern"):
        load_dataset(settings(tmp_path))


def test_a_part_of_a_data_set_names_the_whole(tmp_path: Path, write: Write) -> None:
    for folder in ("images", "labels"):
        write(tmp_path / folder / "a.nii.gz", np.ones((2, 2, 2), np.uint8))
    with pytest.raises(DataError, match=f"is a part of a data set; give the whole, {tmp_path} "):
        load_dataset(settings(tmp_path / "images"))
    write(tmp_path / "dicom" / "x.nii.gz", np.ones((2, 2, 2), np.uint8))
    with pytest.raises(DataError, match="or set dataset.layout=dicom, if it is DICOM of its own"):
        load_dataset(settings(tmp_path / "dicom"))
