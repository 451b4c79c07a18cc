import os
from pathlib import Path

import pytest
import yaml

from segpipe.config.compose import compose_settings
from segpipe.config.folder import groups
from segpipe.errors import ConfigError
from segpipe.settings import Settings


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in groups().items() for name in names])
def test_every_shipped_file_composes(group: str, name: str) -> None:
    assert isinstance(compose_settings([f"{group}={name}"]).settings, Settings)


def test_without_words_the_defaults_and_full_augmentation_rule() -> None:
    settings = compose_settings([]).settings
    assert settings.training == Settings().training
    assert settings.augment == compose_settings(["augment=full"]).settings.augment
    assert settings.augment.rotate.probability > 0


def test_the_command_line_overrides_the_task_and_the_task_the_defaults() -> None:
    settings = compose_settings(["training.max_minutes=3", "conf=hippocampus", "network=vnet", "network.features=[8,16]"]).settings
    assert (settings.name, settings.training.max_minutes) == ("hippocampus", 3.0)
    assert (settings.network.name, settings.network.features) == ("vnet", [8, 16])
    assert settings.dataset.label_names == {"1": "Anterior", "2": "Posterior"}
    assert settings.training.ema == Settings().training.ema


def test_the_membrane_task_is_a_two_dimensional_network_on_pictures_for_ten_minutes() -> None:
    settings = compose_settings(["conf=membrane"]).settings
    assert (settings.plan.dims, settings.plan.patch_size, settings.training.max_minutes) == (2, [256, 256], 10.0)
    assert settings.dataset.label_names == {"255": "cell"}


def test_the_prostate_task_leaves_the_channels_to_the_data_set() -> None:
    settings = compose_settings(["conf=prostate", "dataset.labels=zones_pz_tz"]).settings
    assert (settings.dataset.channels, settings.dataset.label_names) == ([], {"1": "PZ", "2": "TZ"})
    assert compose_settings(["conf=prostate", "dataset.channels=[T2]"]).settings.dataset.channels == ["T2"]


def test_the_yaml_is_complete_and_gives_the_same_settings_again(tmp_path: Path) -> None:
    first = compose_settings(["conf=prostate", "seed=7", r"dataset.group=(a\d),b"])
    assert "augment" in yaml.safe_load(first.yaml)
    again = tmp_path / "config.yaml"
    again.write_text(first.yaml, encoding="utf-8")
    assert compose_settings([f"conf={again}"]).settings == first.settings


def test_a_users_file_builds_on_a_shipped_one_without_a_package_header(tmp_path: Path) -> None:
    own = tmp_path / "prostate.yaml"  # its name is taken by a shipped one, on purpose
    own.write_text("defaults: [/conf/prostate, {override /network: vnet}]\nname: mine\ntraining: {max_minutes: 7}\n")
    settings = compose_settings([f"conf={own}", "seed=2"]).settings
    assert (settings.name, settings.network.name, settings.training.max_minutes, settings.seed) == ("mine", "vnet", 7.0, 2)
    assert settings.dataset.label_names == {"1": "PZ", "2": "TZ"}


def test_a_users_plain_file_is_found_by_a_relative_path_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my (1).yaml").write_text("# @package _global_\ndataset:\n  label_names: {1: lesion}\n")
    monkeypatch.chdir(tmp_path)
    assert compose_settings(["conf=my (1).yaml"]).settings.dataset.label_names == {"1": "lesion"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: {max_minuts: 3}", "training.max_minuts: unknown key; did you mean training.max_minutes?"),
        ("network: vnet", "network: is 'vnet'; must hold settings; write 'defaults: [override /network: vnet]'"),
        ("training:", "training: is empty; must hold settings"),
        ("a: [1", "is no readable YAML"),
        ("- 1", "holds a list; must be a mapping of settings"),
        ("defaults: prostate", "must be a list such as [/conf/prostate, _self_]"),
        ("defaults: [/conf/nope]", "Could not load 'conf/nope'"),
        ("name: ${x", "is no readable YAML"),
    ],
)
def test_a_fault_in_a_users_file_is_one_line_with_the_files_path(text: str, said: str, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(text)
    with pytest.raises(ConfigError) as caught:
        compose_settings([f"conf={own}"])
    assert str(own) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_interpolations_are_resolved_and_a_wrong_one_is_refused() -> None:
    assert compose_settings(["conf=phantom", "run_dir=runs/${name}-${seed}"]).settings.run_dir == "runs/phantom-0"
    with pytest.raises(ConfigError, match="^run_dir: Interpolation key 'nope' not found$"):
        compose_settings(["run_dir=${nope}"])


def test_a_tilde_is_the_home_folder() -> None:
    home = str(Path.home())
    settings = compose_settings(["dataset.root=~/scans", "run_dir=~/run"]).settings
    assert (settings.dataset.root, settings.run_dir) == (os.path.join(home, "scans"), os.path.join(home, "run"))  # noqa: PTH118


def test_a_mapping_on_the_command_line_replaces_the_tasks_and_an_entry_adds_to_it() -> None:
    def names(*words: str) -> dict[str, str]:
        return compose_settings(["conf=prostate", *words]).settings.dataset.label_names

    assert names("dataset.label_names={1:whole gland}") == {"1": "whole gland"}
    assert names("dataset.label_names={}") == {}
    assert names("dataset.label_names.3=lesion") == {"1": "PZ", "2": "TZ", "3": "lesion"}
    assert names("dataset.label_names={1:gland}", "dataset.label_names.2=lesion") == {"1": "gland", "2": "lesion"}
