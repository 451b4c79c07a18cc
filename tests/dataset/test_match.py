"""Names alone tell which image belongs to which label map."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.dataset.layouts.match import Clash, match_by_name, match_by_pattern
from segpipe.errors import ConfigError

_WORD = st.text("abcXYZ019", min_size=1, max_size=6)
_NAME = st.lists(_WORD, min_size=1, max_size=3).map("_".join)


@given(st.sets(_NAME, min_size=1, max_size=12))
def test_equal_names_are_always_pairs_of_one_channel(names: set[str]) -> None:
    match = match_by_name(names, names)
    assert {case: match.images[case] for case in names} == {name: {"": name} for name in names}
    assert match.channels == ("",)


@given(st.sets(_WORD, min_size=1, max_size=8), st.sets(st.sampled_from(["flair", "t1c", "t2", "0000", "0001"]), min_size=1, max_size=3))
def test_common_additions_to_the_label_name_are_channels(cases: set[str], channels: set[str]) -> None:
    match = match_by_name([f"{case}_{channel}" for case in cases for channel in channels], cases)
    assert match.channels == tuple(sorted(channels))
    assert match.images == {case: {channel: f"{case}_{channel}" for channel in channels} for case in cases}


def test_a_case_name_may_begin_with_another_case_name() -> None:
    match = match_by_name(["mt1_t2", "mt1_gm_t2"], ["mt1", "mt1_gm"])
    assert match.images == {"mt1": {"t2": "mt1_t2"}, "mt1_gm": {"t2": "mt1_gm_t2"}}


def test_an_image_with_a_longer_name_than_one_label_is_a_case_without_label() -> None:
    match = match_by_name(["t1", "t1_repeat", "t2"], ["t1", "t2"])
    assert match.channels == ("",)
    assert match.images["t1_repeat"] == {"": "t1_repeat"}
    assert match.pairs == 2


def test_a_missing_channel_of_one_case_does_not_hide_the_channel() -> None:
    match = match_by_name(["p1_flair", "p1_t1c", "p2_flair"], ["p1", "p2"])
    assert match.channels == ("flair", "t1c")
    assert match.images["p2"] == {"flair": "p2_flair"}


def test_channels_of_a_case_without_label_are_one_case() -> None:
    match = match_by_name(["p1_flair", "p1_t1c", "p2_flair", "p2_t1c"], ["p1"])
    assert match.images["p2"] == {"flair": "p2_flair", "t1c": "p2_t1c"}
    assert "p2" not in match.labels


@pytest.mark.parametrize("word", ["seg", "mask"])
def test_a_word_that_all_labels_add_is_no_part_of_the_case(word: str) -> None:
    match = match_by_name(["p1", "p2"], [f"p1_{word}", f"p2_{word}"])
    assert match.labels == {"p1": f"p1_{word}", "p2": f"p2_{word}"}
    assert match.pairs == 2
    both = match_by_name(["p1_img", "p2_img"], [f"p1_{word}", f"p2_{word}"])
    assert both.channels == ("img",)
    assert both.pairs == 2


def test_a_pattern_splits_images_and_may_fit_labels() -> None:
    match = match_by_pattern(["image_1", "image_2", "notes"], ["label_1", "2"], r"(?:image|label)_(?P<case>\d)")
    assert match.images == {"1": {"": "image_1"}, "2": {"": "image_2"}}
    assert match.labels == {"1": "label_1", "2": "2"}
    assert match.unmatched == ("notes",)
    channels = match_by_pattern(["p1-T2", "p1-ADC"], ["p1"], r"(?P<case>.+)-(?P<channel>T2|ADC)")
    assert channels.channels == ("ADC", "T2")


def test_two_files_with_the_meaning_of_one_are_a_clash_and_the_first_is_kept() -> None:
    match = match_by_pattern(["pat0_v1", "pat0_v2", "pat1_v1"], ["pat0_v1", "pat0_v3", "pat1_v1"], r"(?P<case>pat\d+)_.*")
    assert match.images["pat0"] == {"": "pat0_v1"}
    assert match.labels["pat0"] == "pat0_v1"
    assert match.clashes == (Clash("pat0", "image", "pat0_v1", "pat0_v2"), Clash("pat0", "label map", "pat0_v1", "pat0_v3"))
    named = match_by_name(["p1_t2", "p1-t2", "p2_t2"], ["p1", "p2"])
    assert named.clashes == (Clash("p1", "image", "p1-t2", "p1_t2"),)
    assert match_by_name(["p1", "p2"], ["p1_seg", "p1-seg", "p2_seg"]).clashes == (Clash("p1", "label map", "p1-seg", "p1_seg"),)


@pytest.mark.parametrize("pattern", ["(", "(.+)_x"])
def test_a_pattern_that_cannot_work_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.pattern"):
        match_by_pattern(["a"], ["a"], pattern)
