import operator
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.config.check import to_settings
from segpipe.errors import ConfigError
from segpipe.settings import Settings


def test_nothing_given_is_the_defaults() -> None:
    assert to_settings({}) == Settings()


def test_null_keeps_the_default() -> None:
    assert to_settings({"plan": {"patch_size": None}, "seed": None}) == Settings()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", "7", 7),
        ("seed", 7.0, 7),
        ("name", 5, "5"),
        ("training.lr", "1e-3", 1e-3),
        ("training.max_minutes", 3, 3.0),
        ("training.tensorboard", "yes", True),
        ("training.tensorboard", 0, False),
        ("dataset.channels", "T2", ["T2"]),
        ("dataset.channels", ["T2", 1], ["T2", "1"]),
        ("dataset.label_names", {1: "PZ"}, {"1": "PZ"}),
        ("training.class_weights", {"PZ": "2", 3: 0.5}, {"PZ": 2.0, "3": 0.5}),
        ("dataset.regions", {"whole": [1, "2"], 3: [2]}, {"whole": [1, 2], "3": [2]}),
        ("dataset.ignore", ["255", -1], [255, -1]),
        ("plan.spacing_mm", [1, 1, 3], [1.0, 1.0, 3.0]),
        ("network.strides", [[1, 1], ["2", 2.0]], [[1, 1], [2, 2]]),
        ("plan.flips", [True, "false", 1], [True, False, True]),
    ],
)
def test_values_are_converted_where_nothing_is_lost(key: str, value: Any, expected: Any) -> None:
    section, _, name = key.rpartition(".")
    found = operator.attrgetter(key)(to_settings({section: {name: value}} if section else {name: value}))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"max_minuts": 3}}, "training.max_minuts: unknown key; did you mean training.max_minutes?"),
        ({"training": {"max_minutes": "abc"}}, "training.max_minutes: is 'abc'; must be a number from 0 to 100000"),
        ({"training": {"max_minutes": -1}}, "training.max_minutes: is -1; must be a number from 0 to 100000"),
        ({"training": {"lr": float("nan")}}, "training.lr: is nan; must be a number from 0 to 10"),
        ({"training": {"lr": True}}, "training.lr: is True; must be a number from 0 to 10"),
        ({"seed": 2.5}, "seed: is 2.5; must be a whole number from 0 to 2147483647"),
        ({"training": {"optimiser": "adam"}}, "training.optimiser: is 'adam'; must be one of adamw, sgd"),
        ({"training": {"tensorboard": "maybe"}}, "training.tensorboard: is 'maybe'; must be true or false"),
        ({"training": 3}, "training: is 3; must hold settings, such as training.max_steps"),
        ({"training": None}, "training: is empty; must hold settings, such as training.max_steps"),
        ({"plan": {"spacing_mm": 1}}, "plan.spacing_mm: is 1; must be a list, each a number from 0 to 1000: [..., ...]"),
        ({"plan": {"spacing_mm": [1, "a"]}}, "plan.spacing_mm[1]: is 'a'; must be a number from 0 to 1000"),
        ({"network": {"strides": [2, 2]}}, "network.strides[0]: is 2; must be a list, each a whole number from 1 to 8: [..., ...]"),
        ({"network": {"strides": 2}}, "network.strides: is 2; must be a list of lists: [[..., ...], [..., ...]]"),
        ({"network": {"strides": [[1, 9]]}}, "network.strides[0][1]: is 9; must be a whole number from 1 to 8"),
        ({"plan": {"patch_size": [0]}}, "plan.patch_size[0]: is 0; must be a whole number from 1 to 4096"),
        ({"training": {"class_weights": {"PZ": "much"}}}, "training.class_weights.PZ: is 'much'; must be a number from 0 to 1000"),
        ({"dataset": {"regions": {"whole": 1}}}, "dataset.regions.whole: is 1; must be a list, each a whole number: [..., ...]"),
        ({"dataset": {"regions": [1]}}, "dataset.regions: is [1]; must be a mapping, such as {whole: [1, 2]}"),
        ({"training": {"class_weights": [1]}}, 'training.class_weights: is [1]; must be a mapping, such as {"PZ": 1, "TZ": 2.5}'),
        ({"dataset": {"sparse": "k"}}, "dataset.sparse: is 'k'; must be one of none, x, y, z"),
        ({"dataset": {"label_names": ["PZ"]}}, 'dataset.label_names: is [\'PZ\']; must be a mapping, such as {"1": PZ, "2": TZ}'),
        ({"name": ["a"]}, "name: is ['a']; must be text"),
        ({"dataset": {"split": "folds", "fold": 5}}, "dataset.fold: is 5; must be 0 to 4, because dataset.folds is 5"),
        ({"augment": {"rotate": {"low": 1, "high": -1}}}, "augment.rotate: low 1 is above high -1; swap them"),
        ({"augment": {"rotate": {"probability": 2}}}, "augment.rotate.probability: is 2; must be a number from 0 to 1"),
    ],
)
def test_a_refusal_names_the_key_the_value_and_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        to_settings(values)


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2))
)
def test_whatever_a_file_holds_is_taken_or_refused_in_one_line(value: Any) -> None:
    for key in ("seed", "name", "device"):
        try:
            to_settings({key: value})
        except ConfigError as error:
            assert str(error).startswith(f"{key}: is ")
            assert "\n" not in str(error)
