"""Parts of a folder for the jobs of an array."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import ConfigError
from segpipe.inference.shard import Shard, parse_shard


@given(st.text(), st.integers(1, 40))
def test_every_case_is_in_exactly_one_part(case: str, count: int) -> None:
    assert sum(Shard(number, count).holds(case) for number in range(1, count + 1)) == 1


def test_the_parts_of_a_large_folder_are_of_like_size() -> None:
    sizes = [sum(Shard(number, 16).holds(f"patient_{case:05}/t2") for case in range(16000)) for number in range(1, 17)]
    assert min(sizes) > 850 and max(sizes) < 1150


def test_words_name_a_part_and_none_the_whole() -> None:
    assert parse_shard("3/16") == Shard(3, 16)
    assert parse_shard("").holds("any")


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "3/", "a/b", "-1/4", "1/0", "3/16/2"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--shard: is .*; must be NUMBER/COUNT, counted from 1, such as 3/16"):
        parse_shard(text)
