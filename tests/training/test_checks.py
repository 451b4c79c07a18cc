"""What no data can make right is refused at the door."""

import dataclasses
import sys

import pytest

from segpipe.errors import ConfigError
from segpipe.settings import AugmentSettings, Effect, NetworkSettings, Settings, TrainingSettings
from segpipe.training.checks import check_settings


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("augment", AugmentSettings(rotate=Effect(0.5, 0.0, 400.0)), r"augment\.rotate\.high is 400"),
        ("training", TrainingSettings(callback="foo.Bar"), r"training\.callback is 'foo.Bar', which cannot be imported"),
        ("network", NetworkSettings(target="foo.Bar"), r"network\.target is 'foo.Bar', which cannot be imported"),
    ],
)
def test_a_wrong_section_is_named(section: str, values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_settings(dataclasses.replace(Settings(), **{section: values}))


@pytest.mark.parametrize("network", [NetworkSettings(stages=2), NetworkSettings(features=[4, 8]), NetworkSettings(strides=[[1], [2]])])
@pytest.mark.parametrize("key", ["thaw", "stage_lr"])
def test_numbers_for_more_stages_than_are_set_are_refused(network: NetworkSettings, key: str) -> None:
    def wanted(count: int) -> Settings:
        return Settings(network=network, training=TrainingSettings(**{key: [0.0] * count}))

    with pytest.raises(ConfigError, match=rf"training\.{key} has 3 numbers; the network has 2 encoder stages"):
        check_settings(wanted(3))
    check_settings(wanted(2))


def test_where_the_plan_decides_the_stages_they_are_counted_later() -> None:
    check_settings(Settings(training=TrainingSettings(thaw=[0.0] * 7)))


@pytest.mark.parametrize(("name", "value"), [("tensorboard", True), ("mlflow", "file:x")])
def test_a_logger_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    for package in ("tensorboard", "tensorboardX", "mlflow"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"training\.{name} is set, but {name} is not installed: pip install"):
        check_settings(Settings(training=TrainingSettings(**{name: value})))
