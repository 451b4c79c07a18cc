"""Groups never part, the same seed gives the same split, and a frozen split is kept."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.dataset.case import Case
from segpipe.dataset.facts import CaseFacts, ImageFacts, Values
from segpipe.dataset.split import check_split, fold_numbers, keep_together, load_split, make_split, save_split
from segpipe.errors import ConfigError, DataError
from segpipe.settings import DatasetSettings

FRACTION = DatasetSettings()
FOLDS = replace(FRACTION, split="folds")


def cases(*groups: str, folds: tuple[int | None, ...] = ()) -> list[Case]:
    given_folds = folds or (None,) * len(groups)
    return [
        Case(f"c{n:03d}", (Path("i"),), Path("l"), group, fold) for n, (group, fold) in enumerate(zip(groups, given_folds, strict=True))
    ]


@given(
    st.lists(st.sampled_from(["", "p", "q", "r", "s"]), min_size=2, max_size=40), st.integers(0, 9), st.sampled_from([0.1, 0.2, 0.5, 0.9])
)
def test_a_fraction_holds_out_whole_groups_and_leaves_something_on_both_sides(groups: list[str], seed: int, fraction: float) -> None:
    all_cases = cases(*groups)
    split = make_split(all_cases, replace(FRACTION, fraction=fraction), seed)
    train, held = set(split.train), set(split.validation)
    assert train | held == {case.name for case in all_cases}
    assert train and held and not train & held
    if len({case.group or case.name for case in all_cases}) > 1:
        for group in set(groups) - {""}:
            members = {case.name for case in all_cases if case.group == group}
            assert members <= train or members <= held
    assert make_split(all_cases[::-1], replace(FRACTION, fraction=fraction), seed) == split


@given(st.integers(2, 60), st.integers(2, 10), st.integers(0, 3))
def test_folds_share_out_every_case_once_and_evenly(count: int, folds: int, seed: int) -> None:
    all_cases = cases(*[""] * count)
    usable = min(folds, count)
    held = [make_split(all_cases, replace(FOLDS, folds=folds, fold=fold), seed).validation for fold in range(usable)]
    assert sorted(name for fold in held for name in fold) == [case.name for case in all_cases]
    assert max(map(len, held)) - min(map(len, held)) <= 1
    with pytest.raises(ConfigError, match=f"must be below {usable}"):
        make_split(all_cases, replace(FOLDS, folds=folds, fold=usable), seed)


def test_one_fifth_of_208_cases_is_42_and_the_seed_decides_which() -> None:
    all_cases = cases(*[""] * 208)
    splits = [make_split(all_cases, FRACTION, seed) for seed in (0, 0, 1)]
    assert [len(split.validation) for split in splits] == [42, 42, 42]
    assert splits[0] == splits[1] != splits[2]
    assert "seed 0" in splits[0].note


def test_one_case_trains_and_validates_and_the_note_says_so() -> None:
    split = make_split(cases(""), FRACTION, 0)
    assert split.train == split.validation == ("c000",) and not split.held_out
    assert "WARNING: training and validation use the same cases" in split.note


@pytest.mark.parametrize("settings", [FRACTION, FOLDS])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_cases_leave_one_out_with_a_warning(count: int, settings: DatasetSettings) -> None:
    split = make_split(cases(*[""] * count), settings, 0)
    assert (len(split.train), len(split.validation)) == (count - 1, 1) and split.held_out
    assert f"WARNING: {count} labelled case(s) only" in split.note


def test_one_patient_only_is_split_by_case_and_the_note_says_so() -> None:
    split = make_split(cases("p", "p", "p", "p", "p", "p"), FRACTION, 0)
    assert not set(split.train) & set(split.validation)
    assert "WARNING: p on both sides" in split.note


def test_nothing_held_out_validates_on_the_training_cases() -> None:
    split = make_split(cases(*[""] * 6), replace(FRACTION, fraction=0.0), 0)
    assert split.train == split.validation
    assert "WARNING" in split.note


def test_folds_of_the_manifest_are_kept() -> None:
    all_cases = cases(*[""] * 6, folds=(0, 1, 2, 0, 1, 2))
    assert make_split(all_cases, replace(FRACTION, fold=1), 0).validation == ("c001", "c004")
    with pytest.raises(ConfigError, match=r"folds 0, 1, 2"):
        make_split(all_cases, replace(FRACTION, fold=3), 0)
    same = make_split(cases("", "", folds=(0, 0)), FRACTION, 0)
    assert same.train == same.validation


def test_named_cases_are_held_out() -> None:
    split = make_split(cases("p", "p", "q"), replace(FOLDS, validation_cases=["c001"]), 0)
    assert (split.train, split.validation) == (("c000", "c002"), ("c001",))
    assert "p on both sides" in split.note
    with pytest.raises(ConfigError, match=r"names 'c01'.*similar: c0"):
        make_split(cases("", "", ""), replace(FOLDS, validation_cases=["c01"]), 0)
    with pytest.raises(ConfigError, match="all 2 cases are held out"):
        make_split(cases("", ""), replace(FOLDS, validation_cases=["c000", "c001"]), 0)


def test_cases_without_label_take_no_part() -> None:
    all_cases = [*cases("", "", "", "", ""), Case("unlabelled", (Path("i"),), None)]
    split = make_split(all_cases, FRACTION, 0)
    assert "unlabelled" not in split.train + split.validation
    with pytest.raises(DataError, match="no case has a label map"):
        make_split(all_cases[-1:], FRACTION, 0)


def test_cases_with_the_same_content_get_one_group() -> None:
    def facts(name: str, content: str, maximum: float = 1.0) -> CaseFacts:
        return CaseFacts(name, (ImageFacts("f", content=content, whole=(Values(1, 0.0, maximum),)),), None)

    all_cases = cases("", "p", "", "", "q", "")
    contents = [
        facts("c000", "A"),
        facts("c001", "A"),
        facts("c002", "B"),
        facts("c003", "C", 0.0),
        facts("c004", "D"),
        facts("c005", "C", 0.0),
    ]
    assert [case.group for case in keep_together(all_cases, contents)] == ["p", "p", "", "", "q", ""]
    twins = keep_together(cases("", ""), [facts("c000", "A"), facts("c001", "A")])
    assert [case.group for case in twins] == ["c000", "c000"]


def test_a_frozen_split_is_read_again_and_refused_when_a_case_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "splits.json"
    all_cases = cases(*[""] * 10)
    split = make_split(all_cases, FRACTION, 0)
    save_split(path, split)
    assert load_split(path) == split
    check_split(path, split, [*all_cases, Case("new", (Path("i"),), Path("l"))])
    assert "1 cases are new" in caplog.text
    with pytest.raises(DataError, match=r"splits\.json: names c009, which the data set no longer has"):
        check_split(path, split, all_cases[:-1])


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 2}', '{"version": 1, "train": ["a"]}', '{"version": 1, "train": ["a"], "validation": [1]}']
)
def test_a_damaged_split_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"splits\.json"):
        load_split(path)
    with pytest.raises(DataError, match=r"splits\.json"):
        load_split(tmp_path / "absent" / "splits.json")


def test_folds_are_those_of_the_manifest_or_as_many_as_the_groups_allow() -> None:
    cases = [Case(f"c{n}", (Path("x"),), Path("l"), group=f"p{n // 2}") for n in range(8)]
    assert fold_numbers(cases, DatasetSettings(folds=3)) == [0, 1, 2]
    assert fold_numbers(cases, DatasetSettings(folds=5)) == [0, 1, 2, 3]
    fixed = [dataclasses.replace(case, fold=2 * (n % 2)) for n, case in enumerate(cases)]
    assert fold_numbers(fixed, DatasetSettings(folds=5)) == [0, 2]
    with pytest.raises(DataError, match="1 labelled case.* cannot be divided"):
        fold_numbers(cases[:1], DatasetSettings())
