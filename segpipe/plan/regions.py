"""Overlapping regions: which classes make each up, and which class it writes into a label map."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from segpipe.errors import ConfigError
from segpipe.plan.plan import Label, Region

log = logging.getLogger(__name__)


def decide_regions(wanted: Mapping[str, Sequence[int]], labels: Sequence[Label], reasons: dict[str, str]) -> tuple[Region, ...]:
    """The regions of the settings, in their order.

    A region writes the one value of its own that no later region holds: of `whole: [1, 2, 4], core: [1, 4], enhancing: [4]` the
    first writes 2, the second 1 over it, the third 4 over both, so that the label map has the values of the training again.

    Args:
        wanted: name to label values.

    Raises:
        ConfigError: a value that is no label or the background, the same region twice, or a region that has no value of its own or several.
    """
    by_value = {label.value: label.index for label in labels[1:]}
    items = [(name, tuple(dict.fromkeys(values))) for name, values in wanted.items()]
    regions: list[Region] = []
    for number, (name, values) in enumerate(items):
        strange = [value for value in values if value not in by_value]
        if strange or not values:
            known = ", ".join(f"{label.value} ({label.name})" for label in labels[1:])
            what = f"holds {', '.join(map(str, strange))}, which is no label" if strange else "holds no label value"
            raise ConfigError(f"dataset.regions.{name} {what}; known are {known}")
        later = {value for _, others in items[number + 1 :] for value in others}
        own = [value for value in values if value not in later]
        if len(own) != 1:
            what = f"its values {', '.join(map(str, own))} are in no later region" if own else "later regions hold all its values"
            raise ConfigError(
                f"dataset.regions.{name}: {what}; each region must have exactly one value that no later one has, which it writes: "
                "order them from the whole to its parts, and give each part a region"
            )
        regions.append(Region(name, tuple(sorted(by_value[value] for value in values)), by_value[own[0]]))
    if regions:
        reasons["regions"] = "set by hand; outputs may overlap, each with a probability of its own, painted in this order"
        unpainted = {label.index for label in labels[1:]} - {region.paints for region in regions}
        if unpainted:
            names = ", ".join(label.name for label in labels if label.index in unpainted)
            log.warning("dataset.regions: no region writes %s, which will be in no label map", names)
    return tuple(regions)
