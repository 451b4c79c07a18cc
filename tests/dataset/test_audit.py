"""Each fault is found once, at its file, with a cure, and stops the training or not as it should."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segpipe.dataset.audit import audit, can_train
from segpipe.dataset.finding import Finding
from segpipe.dataset.load import load_dataset
from segpipe.dataset.measure import measure
from segpipe.settings import DatasetSettings

Write = Callable[..., Path]


def findings(root: Path, **values: object) -> list[Finding]:
    data = load_dataset(replace(DatasetSettings(root=str(root)), **values))
    return audit(data, measure(data, workers=1))


def change(path: Path, edit: Callable[[np.ndarray], np.ndarray | None], affine: np.ndarray | None = None) -> None:
    scan = nib.load(path)
    array = np.asanyarray(scan.dataobj).copy()
    result = edit(array)
    nib.save(nib.Nifti1Image(array if result is None else result, scan.affine if affine is None else affine), path)


def keep(array: np.ndarray) -> np.ndarray:
    return array


def put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def _put(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float32)
        array[1, 1, 1] = value
        return array

    return _put


def one(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    assert found[0].cure
    return found[0]


def test_a_clean_data_set_has_no_finding(pairs: Callable[..., Path]) -> None:
    assert findings(pairs(4)) == []


@pytest.mark.parametrize(
    ("folder", "edit", "severity", "what"),
    [
        ("images", put(np.nan), "error", "NaN or Inf in 1 voxel(s)"),
        ("images", put(np.inf), "error", "NaN or Inf in 1 voxel(s)"),
        ("images", lambda array: array * 0 + 7, "warning", "constant: every voxel is 7"),
        ("images", lambda array: array[:-1], "error", "shape 6x5x4 differs from 5x5x4 of the image"),
        ("labels", lambda array: array[:, :, :-1], "error", "shape 6x5x3 differs from 6x5x4 of the image"),
        ("labels", put(0.5), "error", "no whole number in 1 voxel(s)"),
        ("labels", put(np.nan), "error", "no whole number in 1 voxel(s)"),
        ("labels", put(-1), "error", "negative value(s) -1"),
        ("labels", lambda array: array * 0, "warning", "the label map is empty"),
        ("labels", lambda array: np.stack([array, array], -1), "error", "the label map has 2 channels"),
    ],
)
def test_a_fault_in_one_file_is_found(
    pairs: Callable[..., Path], folder: str, edit: Callable[[np.ndarray], np.ndarray], severity: str, what: str
) -> None:
    root = pairs(4)
    change(root / folder / "b.nii.gz", edit)
    finding = one(findings(root))
    at = "labels" if "shape" in what else folder
    assert (finding.severity, finding.case, finding.file) == (severity, "b", str(root / at / "b.nii.gz"))
    assert what in finding.what
    assert can_train([finding]) == (severity == "warning")


def test_a_shift_is_told_in_mm_and_header_noise_passes(pairs: Callable[..., Path]) -> None:
    root = pairs(2)
    noise, shift = np.eye(4), np.eye(4)
    noise[:3, :3] += 1e-5
    shift[0, 3] = 0.002
    change(root / "labels" / "a.nii.gz", keep, noise)
    change(root / "labels" / "b.nii.gz", keep, shift)
    finding = one(findings(root))
    assert (finding.severity, finding.case) == ("error", "b")
    assert "lies 0.002 mm away" in finding.what


def test_a_label_whose_sform_alone_was_moved_by_half_a_voxel_is_an_error(pairs: Callable[..., Path]) -> None:
    root = pairs(2)
    for folder, shift in (("images", 0.0), ("labels", 0.25)):
        scan = nib.load(root / folder / "b.nii.gz")
        moved = np.eye(4)
        moved[:3, 3] = shift
        image = nib.Nifti1Image(np.asanyarray(scan.dataobj), None)
        image.set_qform(np.eye(4), 1)
        image.set_sform(moved, 1)
        nib.save(image, root / folder / "b.nii.gz")
    finding = one(findings(root))
    assert (finding.severity, finding.case) == ("error", "b")
    assert "lies 0.433 mm away" in finding.what


def test_a_copy_in_another_orientation_is_a_duplicate(pairs: Callable[..., Path]) -> None:
    root = pairs(2)
    for folder in ("images", "labels"):
        turned = nib.as_closest_canonical(nib.load(root / folder / "a.nii.gz")).as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
        nib.save(turned, root / folder / "b.nii.gz")
    assert "duplicate content: the same content as" in one(findings(root)).what


def test_unreadable_files_are_findings_and_do_not_stop_the_audit(pairs: Callable[..., Path]) -> None:
    root = pairs(3)
    (root / "images" / "a.nii.gz").write_bytes(b"rubbish")
    (root / "labels" / "c.nii.gz").write_bytes(b"")
    found = findings(root)
    assert [(finding.severity, finding.case) for finding in found] == [("error", "a"), ("error", "c")]
    assert all("cannot be" in finding.what for finding in found)


def test_label_values_must_be_declared_where_names_are_given(pairs: Callable[..., Path]) -> None:
    root = pairs(2)
    unknown = findings(root, label_names={"1": "PZ"})
    assert [(finding.severity, finding.case) for finding in unknown] == [("error", "a"), ("error", "b")]
    assert "unknown label value(s) 2; declared are 1 PZ" in unknown[0].what
    missing = one(findings(root, label_names={"1": "PZ", "2": "TZ", "7": "lesion"}))
    assert (missing.severity, "7 lesion" in missing.what) == ("warning", True)
    same = one(findings(root, label_names={"1": "PZ", "2": "PZ"}))
    assert (same.severity, "share the name 'PZ'" in same.what) == ("error", True)


def test_masks_and_gaps_and_float_labels_are_no_fault(pairs: Callable[..., Path]) -> None:
    root = pairs(2)
    for name in "ab":
        change(root / "labels" / f"{name}.nii.gz", lambda array: np.choose(array, [0, 7, 255]).astype(np.float32))
    assert findings(root) == []


def test_duplicate_content_is_a_warning_but_an_error_across_groups_and_folds(tmp_path: Path, write: Write) -> None:
    array = np.random.default_rng(0).integers(0, 9, (4, 4, 4)).astype(np.int16)
    for name in "abc":
        write(tmp_path / f"{name}.nii.gz", array + (name == "c"))
    write(tmp_path / "l.nii.gz", (array > 4).astype(np.uint8))
    results = []
    for a, b in ((",,", ",,"), (",p,0", ",p,0"), (",p,", ",q,"), (",,0", ",,1")):
        rows = ["case,image,label,group,fold", f"a,a.nii.gz,l.nii.gz{a}", f"b,b.nii.gz,l.nii.gz{b}"]
        rows.append("c,c.nii.gz,l.nii.gz,r," + ("0" if a[-1] == "0" else ""))
        (tmp_path / "manifest.csv").write_text("\n".join(rows))
        results.append(one(findings(tmp_path)))
    assert [finding.severity for finding in results] == ["warning", "warning", "error", "error"]
    assert [finding.what.split(":")[0] for finding in results] == [
        "duplicate content",
        "duplicate content",
        "same patient in two groups",
        "same scan in two folds",
    ]


def test_a_group_in_two_folds_and_folds_for_some_cases_only_are_errors(tmp_path: Path, write: Write) -> None:
    random = np.random.default_rng(0)
    rows = ["case,image,label,group,fold"]
    for name, group, fold in (("a", "p", "0"), ("b", "p", "1"), ("c", "q", "")):
        write(tmp_path / f"{name}.nii.gz", random.normal(size=(3, 3, 3)).astype(np.float32))
        rows.append(f"{name},{name}.nii.gz,l.nii.gz,{group},{fold}")
    write(tmp_path / "l.nii.gz", np.arange(27, dtype=np.uint8).reshape(3, 3, 3) % 2)
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    found = findings(tmp_path)
    assert [(finding.severity, finding.case) for finding in found] == [("error", "b"), ("error", "c")]
    assert "same patient in two folds: the group p" in found[0].what
    assert "1 of 3 labelled cases have no fold" in found[1].what


def test_cases_must_have_the_same_channels_and_as_many_as_are_named(pairs: Callable[..., Path]) -> None:
    root = pairs(3)
    assert "2 channels are named" in one(findings(root, channels=["T2", "ADC"])).what
    change(root / "images" / "b.nii.gz", lambda array: np.stack([array, array + 1], -1))
    finding = one(findings(root))
    assert (finding.severity, finding.case, finding.what) == ("error", "b", "has 2 channel(s); most cases have 1")


def test_pictures_among_volumes_are_an_error(pairs: Callable[..., Path]) -> None:
    root = pairs(2)
    for folder in ("images", "labels"):
        Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) % 3).save(root / folder / "p.png")
    assert "pictures lie among volumes" in one(findings(root)).what


def test_nothing_to_learn_is_an_error(pairs: Callable[..., Path]) -> None:
    root = pairs(2)
    for name in "ab":
        change(root / "labels" / f"{name}.nii.gz", lambda array: array * 0)
    found = findings(root)
    assert "nothing to learn" in found[0].what
    assert not can_train(found)
    for name in "ab":
        (root / "images" / f"{name}.nii.gz").write_bytes(b"x")
    assert any("none of 2 cases" in finding.what for finding in findings(root))


def test_labels_without_a_zero_are_pointed_out(pairs: Callable[..., Path]) -> None:
    root = pairs(2)
    for name in "ab":
        change(root / "labels" / f"{name}.nii.gz", lambda array: array + 1)
    finding = one(findings(root))
    assert (finding.severity, "lowest value, 1" in finding.what) == ("warning", True)


def test_errors_come_first(pairs: Callable[..., Path]) -> None:
    root = pairs(3)
    change(root / "images" / "a.nii.gz", lambda array: array * 0)
    change(root / "images" / "c.nii.gz", put(np.nan))
    assert [finding.severity for finding in findings(root)] == ["error", "warning"]


def test_scans_that_look_like_ct_are_to_be_named_so(pairs: Callable[..., Path], write: Write) -> None:
    root = pairs(3)
    random = np.random.default_rng(0)
    for name in "ab":  # two of three have air around the body, one of them padding, too
        scan = random.normal(40, 20, (6, 5, 4)).astype(np.float32)
        scan[:2], scan[0, 0] = -1000.0, (-3024.0 if name == "b" else -1000.0)
        write(root / "images" / f"{name}.nii.gz", scan)
    finding = one(findings(root))
    assert finding.severity == "warning"
    assert "looks like CT (air at about -1000 in 2 of 3 scans)" in finding.what
    assert finding.cure.endswith("set dataset.channels to CT")
    assert findings(root, channels=["CT"]) == []
    assert findings(root, channels=["hu"]) == []


def test_label_maps_that_differ_on_the_same_scan_are_named(tmp_path: Path, write: Write) -> None:
    array = np.random.default_rng(0).integers(0, 9, (4, 4, 4)).astype(np.int16)
    for name in "ab":
        write(tmp_path / "images" / f"{name}.nii.gz", array)
        write(tmp_path / "labels" / f"{name}.nii.gz", (array > 4).astype(np.uint8))
    assert "label maps differ" not in one(findings(tmp_path)).what
    write(tmp_path / "labels" / "b.nii.gz", (array > 5).astype(np.uint8))
    found = one(findings(tmp_path))
    assert found.severity == "warning"
    assert str(tmp_path / "labels/a.nii.gz") in found.what and str(tmp_path / "labels/b.nii.gz") in found.what
    assert "right label map" in found.cure


@pytest.mark.parametrize(
    ("names", "patient"),
    [
        (("sub-01_T1w", "sub-01_T2w", "sub-02_T1w"), "sub-01"),
        (("anna_visit1", "anna_visit2", "ben_visit1"), "anna"),
        (("x-slice_01", "x-slice_02", "y-slice_01", "other"), "x"),
        (("sub-01_T1w", "sub-02_T1w"), ""),  # one scan each
        (("slice_1", "slice_2", "slice_3"), ""),  # no patient named
        (("x_visit1", "x_visit2"), ""),  # one patient: nothing to divide
        (("case_1", "case_2"), ""),
    ],
)
def test_names_that_tell_patients_are_pointed_out(names: tuple[str, ...], patient: str, tmp_path: Path, write: Write) -> None:
    for number, name in enumerate(names):
        array = np.random.default_rng(number).integers(0, 9, (4, 4, 4)).astype(np.int16)
        write(tmp_path / "images" / f"{name}.nii.gz", array)
        write(tmp_path / "labels" / f"{name}.nii.gz", (array > 4).astype(np.uint8))
    found = findings(tmp_path)
    if not patient:
        assert found == []
        return
    assert f"of one patient ({patient})" in one(found).what
    pattern = one(found).cure.removeprefix("if so, set dataset.group to '").removesuffix("'")
    cured = findings(tmp_path, group=pattern)
    assert not any("of one patient" in finding.what for finding in cured)


def test_values_to_be_ignored_are_no_structure(pairs: Callable[..., Path]) -> None:
    root = pairs(2)
    change(root / "labels" / "a.nii.gz", put(-1))
    assert "negative" in one(findings(root)).what
    assert findings(root, ignore=[-1]) == []
    change(root / "labels" / "b.nii.gz", lambda array: np.where(array > 0, 7, 0).astype(np.uint8))
    assert "the label map is empty" in one(findings(root, ignore=[-1, 7])).what
    named = findings(root, label_names={"1": "one", "2": "two", "7": "ignore"})
    assert [(finding.severity, finding.case, finding.what.split(" -1")[0]) for finding in named] == [
        ("error", "a", "the label map holds the negative value(s)"),
        ("warning", "b", "the label map is empty"),
    ]


def write_masks(root: Path, quality: dict[str, str]) -> Path:
    """Discs with their masks of 0 and 255; `quality` says of each case whether its mask was `jpg`, `png` or `png after jpg`."""
    row, column = np.mgrid[:64, :64]
    for number, (name, kind) in enumerate(quality.items()):
        disc = (row - 25 - number) ** 2 + (column - 30) ** 2 < 200
        for folder in ("images", "labels"):
            (root / folder).mkdir(exist_ok=True)
        Image.fromarray(np.where(disc, 200, 60 + number + row).astype(np.uint8)).save(root / "images" / f"{name}.png")
        mask = Image.fromarray((255 * disc).astype(np.uint8))
        if kind != "png":
            mask.save(root / "labels" / f"{name}.jpg", quality=60)
            with Image.open(root / "labels" / f"{name}.jpg") as lossy:
                mask = lossy.copy()
        if kind != "jpg":
            mask.save(root / "labels" / f"{name}.png")
            (root / "labels" / f"{name}.jpg").unlink(missing_ok=True)
    return root


def test_a_label_map_that_is_a_jpeg_is_an_error(tmp_path: Path) -> None:
    finding = one(findings(write_masks(tmp_path, {"a": "png", "b": "jpg", "c": "png"})))
    assert (finding.severity, finding.case, finding.file) == ("error", "b", str(tmp_path / "labels" / "b.jpg"))
    assert "is a JPEG" in finding.what and "save it as PNG" in finding.cure


def test_values_that_one_lossy_mask_alone_holds_are_pointed_out(tmp_path: Path) -> None:
    finding = one(findings(write_masks(tmp_path, {"a": "png", "b": "png after jpg", "c": "png"})))
    assert (finding.severity, finding.case, finding.file) == ("warning", "b", str(tmp_path / "labels" / "b.png"))
    assert "occur in one case only" in finding.what and "without loss" in finding.cure


def test_many_values_that_the_cases_share_are_structures(pairs: Callable[..., Path]) -> None:
    root = pairs(3)
    for name in "abc":
        change(root / "labels" / f"{name}.nii.gz", lambda array: np.arange(array.size, dtype=np.uint8).reshape(array.shape) % 40)
    assert not any("one case only" in finding.what for finding in findings(root))


def test_values_to_be_ignored_that_no_label_map_holds_are_pointed_out(pairs: Callable[..., Path]) -> None:
    root = pairs(2)
    finding = one(findings(root, ignore=[2, 9]))
    assert (finding.severity, "ignored, 9, occur in no label map; the label maps hold 0, 1, 2" in finding.what) == ("warning", True)
    assert "dataset.ignore" in finding.cure
    assert findings(root, ignore=[2]) == []


def test_one_case_alone_is_pointed_out(pairs: Callable[..., Path]) -> None:
    finding = one(findings(pairs(1)))
    assert (finding.severity, "validates on the case that it trained on" in finding.what) == ("warning", True)
