"""From words and YAML files to `Settings`: Hydra composes, `check` checks."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segpipe.config.check import to_settings
from segpipe.config.folder import PRIMARY, TASKS, conf_folder, groups
from segpipe.config.keys import join, leaves, sections, unknown
from segpipe.config.words import Words, read_words
from segpipe.errors import ConfigError
from segpipe.settings import Settings


@dataclass(frozen=True)
class Composed:
    """Attributes:
    settings: checked, plain values.
    yaml: the same as YAML, every setting in it; usable as `conf=FILE` for the same run again.
    """

    settings: Settings
    yaml: str


def compose_settings(words: Sequence[str]) -> Composed:
    """Settings from the shipped defaults, the chosen task and the words of the command line, in this order.

    Args:
        words: as typed, `["conf=prostate", "training.max_minutes=3"]`.

    Raises:
        ConfigError: anything that is not a setting, a choice or a value in its range.
    """
    read = read_words(words)
    with search_path(read) as extra, plain_errors(read.files), _hydra():
        return check_composed(compose(PRIMARY, overrides=[*read.overrides, *extra]))


def check_composed(composed: DictConfig) -> Composed:
    """Resolve what Hydra composed, check it and give it back as plain values."""
    with plain_errors():
        values = OmegaConf.to_container(composed, resolve=True)
    if not isinstance(values, dict):
        raise ConfigError(f"settings: are a {type(values).__name__}; must be a mapping")
    settings = _with_home(to_settings(values))
    return Composed(settings, to_yaml(settings))


def to_yaml(settings: Settings) -> str:
    """Every setting as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(settings)))


def _with_home(settings: Settings) -> Settings:
    """A leading `~` in paths means the home folder; shells do not always expand it after an equals sign."""
    dataset = dataclasses.replace(settings.dataset, root=_expand(settings.dataset.root))
    return dataclasses.replace(settings, dataset=dataset, run_dir=_expand(settings.run_dir), out=_expand(settings.out))


def _expand(path: str) -> str:
    return str(Path(path).expanduser()) if path.startswith("~") else path


@contextlib.contextmanager
def search_path(words: Words) -> Iterator[list[str]]:
    """Lay the user's own task files where Hydra finds them; yields the override that tells it, or none."""
    if not words.files:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="segpipe-conf-") as folder:
        group = Path(folder) / TASKS
        group.mkdir()
        for name, path in words.files.items():
            (group / f"{name}.yaml").write_text(_as_task(path), encoding="utf-8")
        yield [f"hydra.searchpath=['file://{folder}']"]


def _as_task(path: Path) -> str:
    """A user's file as a task file: with the package header, and with its own values last where it builds on another."""
    values = _read_mapping(path)
    defaults = values.get("defaults")
    if defaults is not None:
        if not isinstance(defaults, list):
            raise ConfigError(f"{path}: defaults is {defaults!r}; must be a list such as [/conf/prostate, _self_]")
        if "_self_" not in defaults:
            values["defaults"] = [*defaults, "_self_"]
    _refuse_unknown({name: value for name, value in values.items() if name != "defaults"}, "", path)
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return f"# @package _global_\n{text}"


def _read_mapping(path: Path) -> dict[Any, Any]:
    try:
        loaded = OmegaConf.load(path)
        values = OmegaConf.to_container(loaded, resolve=False)
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException, OSError) as error:
        raise ConfigError(f"{path}: is no readable YAML: {_one_line(error)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}; must be a mapping of settings")
    return values


def _refuse_unknown(values: dict[Any, Any], where: str, path: Path) -> None:
    """Name the file of an unknown setting; once composed, nothing tells which file it came from."""
    known, holders = leaves(), sections()
    for name, value in values.items():
        key = join(where, str(name))
        if key in holders:
            if isinstance(value, str) and value in groups().get(key, []):
                cure = f"write 'defaults: [override /{key}: {value}]' for the group's choice"
                raise ConfigError(f"{path}: {key}: is {value!r}; must hold settings; {cure}")
            if not isinstance(value, dict):
                raise ConfigError(f"{path}: {key}: is {'empty' if value is None else repr(value)}; must hold settings, or be left out")
            _refuse_unknown(value, key, path)
        elif key not in known:
            raise unknown(key, str(path))


def _hydra() -> initialize_config_dir:
    return initialize_config_dir(str(conf_folder()), job_name="segpipe", version_base="1.3")


@contextlib.contextmanager
def plain_errors(files: Mapping[str, Path] = MappingProxyType({})) -> Iterator[None]:
    """Hydra's and OmegaConf's own errors as one line of ours, with the user's files by their paths."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'settings'}: {_one_line(error.msg or error)}") from error
    except HydraException as error:
        text = _one_line(error)
        for name, path in files.items():
            text = text.replace(f"{TASKS}/{name}", str(path))
        raise ConfigError(f"settings: {text}") from error


def _one_line(error: object) -> str:
    """The message without what only a developer of Hydra can use: its search path and its own names of nodes."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return text.split(" Config search path:")[0].split(" full_key:")[0]
