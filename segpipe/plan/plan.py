"""What was decided about the data: `Plan`, frozen and versioned, the one thing that training and inference share."""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from segpipe.dicom.terms import Colour, SegmentLabel, Term
from segpipe.errors import ModelError

PLAN_VERSION = 1
IGNORED = 255
"""Class index of voxels of training label maps that nobody has judged."""

Normalisation = Literal["zscore", "ct", "rescale", "none"]
"""zscore: per scan; ct: clip to lower..upper, then data-set mean and std; rescale: (value - lower) / (upper - lower); none."""

Sparse = Literal["none", "x", "y", "z"]


@dataclass(frozen=True)
class Channel:
    """One input channel: its name and how its values are normalised (bounds, mean, std in the scan's own unit).

    Attributes:
        series: which DICOM series it was in the training, see `dicom.channels.Wanted`; empty: nobody has said.
    """

    name: str
    normalisation: Normalisation
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    series: str = field(default="", compare=False)


@dataclass(frozen=True)
class Label:
    """One class: `index` is the network's output channel (0 = background), `value` what the user's files hold.

    Attributes:
        term: what it is, in codes, for DICOM objects; None where nobody has said.
        colour: in which viewers show it; None: one of a palette.
    """

    index: int
    value: int
    name: str
    term: Term | None = None
    colour: Colour | None = None

    def same_class(self, other: Label) -> bool:
        """Whether both mean the same voxels, whatever they are called in DICOM objects."""
        return (self.index, self.value, self.name) == (other.index, other.value, other.name)


@dataclass(frozen=True)
class Region:
    """One output of a network of overlapping regions.

    Attributes:
        members: class indices that make it up.
        paints: the class index that it writes into a label map where it is found, over what the regions before it wrote.
    """

    name: str
    members: tuple[int, ...]
    paints: int


@dataclass(frozen=True)
class NetworkPlan:
    """All that is needed to build the network again. Per-stage lists have one entry a stage, finest first.

    Attributes:
        features: channels of each stage.
        kernels: kernel size of each stage, one number an axis (`dims` numbers).
        strides: step into each stage, one number an axis; the first is all ones.
    """

    name: str
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    convolutions: int = 2
    block: str = "plain"
    norm: str = "instance"
    activation: str = "leaky_relu"
    pooling: str = "stride"
    padding: str = "zeros"
    dropout: float = 0.0
    deep_supervision: bool = False


@dataclass(frozen=True)
class Plan:
    """Frozen decisions. Axes are those of the prepared volume (after `orient` and `axes`).

    Attributes:
        task: name of the task.
        dims: 2 or 3, the network's spatial dimensions. A 2D network sees slices along the last prepared axis.
        channels: input channels in order.
        labels: classes in network order; `labels[0]` is the background.
        orient: bring volumes to the closest RAS axes first (false for pictures).
        axes: permutation of the RAS axes, so that the last prepared axis is the through-plane one.
        spacing_mm: spacing of the network's grid; 0 leaves an axis at the scan's own (slices of a 2D network), `None` all (pictures).
        patch_size: voxels of one patch and window, rows before columns on pictures; the last is 1 for a 2D network.
        batch_size: patches a step.
        nonzero: normalise inside the non-zero region and crop to it.
        flips: for each prepared axis, whether mirroring is allowed in training and at test time.
        network: how the network is built.
        reasons: for each decision, why; for people.
        ignore: values of training label maps whose voxels nobody has judged.
        regions: what the outputs are where they may overlap, in the order of painting; empty: the outputs are the classes.
        nearest: prepared axes along which scans are resampled by the nearest voxel, in place of a blend of two: thick slices.
        skip_empty: at prediction, windows all of whose voxels are clipped at the lower bound (air, in a CT) are background: the network,
            which would see a constant, is not asked.
        sparse: world axis (x, y, z) across which slices of training label maps without any label are not judged.
    """

    task: str
    dims: int
    channels: tuple[Channel, ...]
    labels: tuple[Label, ...]
    orient: bool
    axes: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    patch_size: tuple[int, int, int]
    batch_size: int
    nonzero: bool
    flips: tuple[bool, bool, bool]
    network: NetworkPlan
    reasons: dict[str, str] = field(default_factory=dict)
    version: int = PLAN_VERSION
    ignore: tuple[int, ...] = ()
    sparse: Sparse = "none"
    regions: tuple[Region, ...] = ()
    nearest: tuple[bool, bool, bool] = (False, False, False)
    skip_empty: bool = False

    @property
    def partly_judged(self) -> bool:
        """Whether training label maps may hold voxels of the class index `IGNORED`."""
        return bool(self.ignore) or self.sparse != "none"

    @property
    def pictures(self) -> bool:
        """Whether it is for pictures, which have no place in a patient, and not for volumes."""
        return not self.orient

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return len(self.labels)

    @property
    def segment_labels(self) -> tuple[SegmentLabel, ...]:
        """The labels but the background, as DICOM objects are made with them."""
        return tuple(SegmentLabel(label.value, label.name, label.term, label.colour) for label in self.labels[1:])

    @property
    def outputs(self) -> int:
        """Number of network outputs: the regions, or the classes with the background."""
        return len(self.regions) or len(self.labels)

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """What is validated, by name: the regions, or the classes but the background; the class indices of each."""
        return {region.name: region.members for region in self.regions} or {label.name: (label.index,) for label in self.labels[1:]}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)


def plan_from_dict(values: dict[str, Any]) -> Plan:
    """The plan that `Plan.to_dict` wrote.

    Raises:
        ModelError: unknown version, missing or unknown key, wrong type.
    """
    if not isinstance(values, dict) or values.get("version") != PLAN_VERSION:
        found = values.get("version") if isinstance(values, dict) else None
        raise ModelError(
            f"plan version is {found}; this segpipe reads version {PLAN_VERSION}: use the segpipe that made it, or export again"
        )
    plan: Plan = _build(Plan, values, "plan")
    if plan.dims not in (2, 3):
        raise ModelError(f"plan.dims is {plan.dims}; must be 2 or 3")
    return plan


def _build(kind: Any, value: Any, where: str) -> Any:
    """Check `value` against the type `kind` and build it; the few kinds that plans are made of."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build_dataclass(kind, value, where)
    if origin is tuple:
        items = _expect(value, (list, tuple), where)
        if args[-1] is Ellipsis:
            return tuple(_build(args[0], item, where) for item in items)
        if len(items) != len(args):
            raise ModelError(f"{where} has {len(items)} values; must have {len(args)}")
        return tuple(_build(kind_, item, where) for kind_, item in zip(args, items, strict=True))
    if origin is Literal:
        if value not in args:
            raise ModelError(f"{where} is {value!r}; must be one of {', '.join(args)}")
        return value
    if origin is dict:
        return {str(key): str(item) for key, item in _expect(value, dict, where).items()}
    if type(None) in args:
        return None if value is None else _build(args[0], value, where)
    if kind is float:
        return float(_expect(value, (int, float), where))
    return _expect(value, kind, where)


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    values = _expect(value, dict, where)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ModelError(f"{where} has the unknown key {unknown[0]!r}; known: {', '.join(hints)}")
    try:
        return kind(**{key: _build(hints[key], item, f"{where}.{key}") for key, item in values.items()})
    except TypeError as error:
        raise ModelError(f"{where} is incomplete: {error}") from error


def _expect(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ModelError(f"{where} is {value!r}; must be of type {kind}")
    return value
