"""Faults of a data set in the words of `segpipe inspect`: what training calls `dataset.labels` is its option `--labels`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from segpipe.errors import SegpipeError

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


def in_option_words(text: str) -> str:
    """The text with options of `inspect` for settings of training."""
    return _SETTING.sub(lambda hit: OPTIONS[hit[1]], text)


@contextmanager
def option_words() -> Iterator[None]:
    """Raise the errors of the block again, in the words of `inspect`."""
    try:
        yield
    except SegpipeError as error:
        raise type(error)(in_option_words(str(error))) from error
