"""What no data can make right is refused at the door."""

import dataclasses
import sys
from pathlib import Path

import pytest

from segpipe.dataset.load import load_dataset
from segpipe.errors import ConfigError, DataError, SegpipeError
from segpipe.settings import AugmentSettings, DatasetSettings, Effect, NetworkSettings, Settings, TrainingSettings
from segpipe.training.checks import check_settings
from segpipe.training.run import run_training
from segpipe.training.survey import survey

HERE = DatasetSettings(root=".")


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
        return Settings(dataset=HERE, network=network, training=TrainingSettings(**{key: [0.0] * count}))

    with pytest.raises(ConfigError, match=rf"training\.{key} has 3 numbers; the network has 2 encoder stages"):
        check_settings(wanted(3))
    check_settings(wanted(2))


def test_where_the_plan_decides_the_stages_they_are_counted_later() -> None:
    check_settings(Settings(dataset=HERE, training=TrainingSettings(thaw=[0.0] * 7)))


@pytest.mark.parametrize(("name", "value"), [("tensorboard", True), ("mlflow", "file:x")])
def test_a_logger_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    for package in ("tensorboard", "tensorboardX", "mlflow"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"training\.{name} is set, but {name} is not installed: pip install"):
        check_settings(Settings(training=TrainingSettings(**{name: value})))


def said(function: object, *arguments: object) -> tuple[type[SegpipeError], str]:
    with pytest.raises(SegpipeError) as caught:
        function(*arguments)  # type: ignore[operator]
    return caught.type, str(caught.value)


def test_a_missing_data_set_is_told_in_the_words_of_the_code_that_reads_it() -> None:
    empty, nowhere = Settings(), Settings(dataset=DatasetSettings(root="~/nowhere/at/all"))
    assert said(check_settings, empty) == said(survey, empty)
    assert said(check_settings, nowhere) == said(load_dataset, nowhere.dataset)


@pytest.mark.parametrize("root", ["", "nope"])
def test_a_missing_data_set_is_told_before_the_run_that_the_folder_holds(root: str, tmp_path: Path) -> None:
    (tmp_path / "model.ts").touch()
    with pytest.raises((ConfigError, DataError), match=r"dataset\.root"):
        run_training(Settings(run_dir=str(tmp_path), dataset=DatasetSettings(root=root)), "")
