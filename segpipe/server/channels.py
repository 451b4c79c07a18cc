"""Which file of a request is which channel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

from segpipe.server.faults import refused
from segpipe.server.models import Served
from segpipe.server.upload import Form, Sent

T = TypeVar("T")


def in_order(form: Form, model: Served) -> list[Sent]:
    """The files of a request in the model's order of channels: as they came, or as the field `channels` names them.

    Raises:
        RequestError: the names are not those of the model, or not one a file.
    """
    return arranged(form.files, named(form), model)


def named(form: Form) -> list[str]:
    """The channel of each file, as the field `channels` names them; empty: they are in order, or one holds all.

    Raises:
        RequestError: not one name a file.
    """
    told = form.fields.get("channels", "").strip()
    if not told or len(form.files) == 1:
        return []
    try:
        names = json.loads(told)
    except (ValueError, RecursionError) as error:
        raise refused('channels: is not JSON; must be a list of names, one a file: ["T2", "ADC"]') from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != len(form.files):
        raise refused(f"channels: must be a list of {len(form.files)} names, one a file in the order of the files")
    return names


def arranged(files: Sequence[T], names: Sequence[str], model: Served) -> list[T]:
    """Files in the model's order of channels, by their names, if there are any.

    Raises:
        RequestError: the names are not those of the model.
    """
    if not names:
        return list(files)
    by_name = dict(zip((name.lower() for name in names), files, strict=True))
    if len(by_name) < len(names) or set(by_name) != {channel.lower() for channel in model.channels}:
        raise refused(f"channels: must name each channel of {model.id} once: {', '.join(model.channels)}")
    return [by_name[channel.lower()] for channel in model.channels]
