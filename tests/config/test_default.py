"""`conf/default.yaml` is the list of all settings; it must say what the dataclasses say."""

import dataclasses
import re
from typing import Any

import yaml

from segpipe.config.check import to_settings
from segpipe.config.folder import conf_folder
from segpipe.config.keys import leaves
from segpipe.settings import Settings

TEXT = (conf_folder() / "default.yaml").read_text(encoding="utf-8")


def flat(values: dict[str, Any], where: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{where}{name}"
        found.update(flat(value, f"{key}.") if isinstance(value, dict) and value else {key: value})
    return found


def own_values() -> dict[str, Any]:
    values = yaml.safe_load(TEXT)
    del values["defaults"]
    return values


def test_every_setting_stands_in_default_yaml_once_and_in_the_order_of_the_dataclasses() -> None:
    assert list(flat(own_values())) == list(leaves())


def test_the_values_are_those_of_the_dataclasses() -> None:
    assert flat(own_values()) == flat(dataclasses.asdict(Settings()))
    assert to_settings(own_values()) == Settings()


def test_every_setting_is_explained_on_its_line() -> None:
    body = TEXT.split("\nname:", 1)[1]
    silent = [line for line in body.splitlines()[1:] if re.match(r"^ *\w+:", line) and "#" not in line and not line.endswith(":")]
    assert silent == []


def test_every_choice_of_a_setting_is_named_on_its_line() -> None:
    for section in [Settings(), *(getattr(Settings(), name) for name in ("dataset", "network", "training"))]:
        for field in dataclasses.fields(section):
            if choices := field.metadata.get("choices"):
                line = next(line for line in TEXT.splitlines() if re.match(rf"^ *{field.name}: ({choices[0]}\b|\[\])", line))
                assert all(choice in line for choice in choices), line
