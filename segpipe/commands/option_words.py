"""Faults of a data set in the words of `segpipe inspect`: what training calls `dataset.labels` is its option `--labels`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from segpipe.errors import ConfigError, SegpipeError

OPTIONS = {
    "root": "DATA",
    "layout": "--layout",
    "images": "--images",
    "labels": "--labels",
    "pattern": "--pattern",
    "group": "--group",
    "channels": "--channel",
    "ignore": "--ignore",
    "label_names": "--label-name",
}
"""What `inspect` calls each setting of `dataset` that has to do with finding and naming cases."""

_SETTING = re.compile(rf"(?<![\w./\\-])dataset\.({'|'.join(OPTIONS)})(=DIR)?(?![\w./\\]\w)(?!\w)")
"""Not where it is part of a path."""
_DICOM = re.compile(r"(?<![\w./\\-])dataset\.dicom\.(?=\w)")
_MAPPINGS = ("labels", "series")


def in_option_words(text: str) -> str:
    """The text with options of `inspect` for settings of training."""
    return _DICOM.sub("--dicom ", _SETTING.sub(lambda hit: OPTIONS[hit[1]], text))


def dicom_values(words: Iterable[str]) -> dict[str, Any]:
    """The settings of `dataset.dicom` from `KEY=VALUE` words: `labels.PZ=peripheral*`, `overlap=later-wins`, `policy=gap=resample`.

    Raises:
        ConfigError: a word of another form.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        name, dot, entry = key.strip().partition(".")
        if not equals or not name or (name in _MAPPINGS) != bool(dot and entry):
            raise ConfigError(f"--dicom {word}: must be KEY=VALUE, such as --dicom labels.PZ='peripheral*' or --dicom overlap=later-wins")
        if name in _MAPPINGS:
            found.setdefault(name, {})[entry] = value
        elif name == "policy":
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found


@contextmanager
def option_words() -> Iterator[None]:
    """Raise the errors of the block again, in the words of `inspect`."""
    try:
        yield
    except SegpipeError as error:
        raise type(error)(in_option_words(str(error))) from error
