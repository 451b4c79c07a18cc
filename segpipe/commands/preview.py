"""`segpipe preview`: one picture of patches as they are cut and as augmentation makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from segpipe.commands.outcome import Outcome
from segpipe.dataset.case import Case
from segpipe.errors import ConfigError
from segpipe.geometry.grid import Shape
from segpipe.io.atomic import check_file
from segpipe.patches.augment import Augment, check_augment
from segpipe.patches.sampling import cut, draw_centre
from segpipe.plan.plan import IGNORED, Plan
from segpipe.plan.planner import make_plan
from segpipe.settings import Settings
from segpipe.training.data import prepare_case
from segpipe.training.pictures import colour, outline, plain, save_figure, shown, upright
from segpipe.training.run import choose_compute
from segpipe.training.seed import generator
from segpipe.training.survey import survey

ROWS = 4
"""Cases that are shown, spread evenly over the data set."""

AUGMENTED = 6
"""Augmented patches beside each original one."""

_LEGEND = 10
"""Labels that are named; the colours repeat after as many."""


@dataclass(frozen=True, eq=False)
class Row:
    """One case: `images` (1 + AUGMENTED, C, *patch) and `labels` (1 + AUGMENTED, *patch); the first is the original."""

    name: str
    images: Tensor
    labels: Tensor


def preview(settings: Settings) -> Outcome:
    """Write the sheet to `settings.out` (`preview.png` where it is empty): a row a case, original and augmented patches, labels outlined.

    Patches are drawn and changed as training does it, with the same probabilities, from `settings.seed`.

    Raises:
        ConfigError: `out` is no PNG or cannot be written, or an effect has an impossible range.
        DataError, GeometryError: the data set cannot be used.
    """
    out = Path(settings.out or "preview.png")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"out is {str(out)!r}; must end in .png: out=preview.png")
    check_file(out)
    check_augment(settings.augment)
    cases, fingerprint = survey(settings)
    plan = make_plan(settings.name, fingerprint, settings, choose_compute(settings).device)
    augment = Augment(settings.augment, plan.dims, plan.flips, plan.patch_size, plan.spacing_mm)
    rows = [_row(case, plan, augment, settings.seed) for case in _spread(cases)]
    save_figure(_sheet(rows, plan), out)
    return Outcome([f"preview  {out} ({len(rows)} cases, patches of {' x '.join(map(str, plan.patch_size))} voxels)"])


def _spread(cases: Sequence[Case]) -> list[Case]:
    wanted = np.linspace(0, len(cases) - 1, min(ROWS, len(cases)))
    return [cases[round(number)] for number in wanted]


def _row(case: Case, plan: Plan, augment: Augment, seed: int) -> Row:
    """Cut one piece around a labelled voxel and augment it `AUGMENTED` times."""
    random = generator(seed, "preview", case.name)
    prepared = prepare_case(case, plan)
    label = prepared.label
    shape: Shape = (label.shape[0], label.shape[1], label.shape[2])
    centre = draw_centre(shape, prepared.positions, True, plan.patch_size, random)
    original = cut(prepared.prepared.image, label, centre, plan.patch_size)
    piece = cut(prepared.prepared.image, label, centre, augment.read_size)
    images, labels = augment(piece[0].expand(AUGMENTED, *piece[0].shape), piece[1].expand(AUGMENTED, *piece[1].shape), random)
    return Row(case.name, torch.cat([original[0][None], images]), torch.cat([original[1][None], labels]))


def _sheet(rows: Sequence[Row], plan: Plan) -> Figure:
    columns = 1 + AUGMENTED
    side = 2.2
    height = side * plan.patch_size[0 if plan.dims == 2 and not plan.orient else 1] / max(plan.patch_size[:2])
    figure = Figure(figsize=(side * columns, (height + 0.3) * len(rows) + 0.9), layout="constrained")
    for line, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for number, axes in enumerate(line):
            _draw(axes, row, number, plan)
            axes.set_title("original" if number == 0 else f"augmented {number}", fontsize=8)
        line[0].set_ylabel(plain(row.name), fontsize=8)
    named = plan.labels[1 : 1 + _LEGEND]
    handles = [Line2D([], [], color=colour(label.index), label=plain(label.name)) for label in named]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    return figure


def _draw(axes: Axes, row: Row, number: int, plan: Plan) -> None:
    """One patch: its slice with most labelled voxels, in the grey values of the row's original, each label outlined."""
    image, label = row.images[number].numpy(), row.labels[number].numpy()
    k = int(np.argmax(((label > 0) & (label != IGNORED)).sum(axis=(0, 1))))
    low, high = np.percentile(row.images[0].numpy(), (0.5, 99.5))
    axes.imshow(shown(image[..., k], (low, high), not plan.orient), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for index in np.unique(label[..., k]):
        if index > 0 and index != IGNORED:
            outline(axes, upright(label[..., k] == index, not plan.orient), colour(int(index)))
    axes.set(xticks=[], yticks=[])
