"""Fingerprint + settings -> `Plan`: each rule a small function with its source, each decision with its reason."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segpipe.dataset.case import CT_NAMES
from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError, DataError
from segpipe.plan.by_hand import plan_of_file
from segpipe.plan.flips import decide_flips
from segpipe.plan.memory import within_memory
from segpipe.plan.nnunet import decide_nnunet, nnunet_features
from segpipe.plan.patch import PATCH_VOXELS, decide_batch, decide_patch
from segpipe.plan.plan import Channel, Label, NetworkPlan, Normalisation, Plan, Sparse
from segpipe.plan.regions import decide_regions
from segpipe.plan.spacing import ANISOTROPIC, SEEN_SHARE, Spacing, decide_low, decide_spacing, median_shape, seen_share
from segpipe.plan.table import described
from segpipe.plan.topology import Topology
from segpipe.settings import NetworkSettings, PlanSettings, Settings

log = logging.getLogger(__name__)

MOST_VOXELS = 2**30
"""Of a prepared scan: 4 GiB a channel."""
NONZERO_SHARE = 0.75
"""Scans whose non-zero box is smaller than this share are cropped to it (Isensee et al. 2021, Suppl. 2)."""
MOST_FEATURES = {2: 512, 3: 320}
FIRST_FEATURES = {("unet", 3): 16, ("vnet", 3): 8, ("unet", 2): 32, ("vnet", 2): 16}
"""Width of the first stage: narrow networks take many more steps in the same time."""
Frame = tuple[int, tuple[int, int, int], dict[str, str]]
"""Dimensions, axes, and the reasons for both."""
_UNET_ONLY = ("convolutions", "block", "activation", "pooling")


def make_plan(task: str, data: Fingerprint, settings: Settings, device: str = "cpu") -> Plan:
    """Decide everything that training and inference share, or take it from `plan.file`.

    Args:
        task: name of the task, written into the plan.
        device: `cpu` or `cuda`; the patch is sized for it.

    Raises:
        ConfigError: a setting contradicts the data (number of channels, of axes), or no step fits into the memory.
        DataError: the data set has no label besides the background.
    """
    if settings.plan.file:
        return replace(plan_of_file(Path(settings.plan.file), data), task=task)
    if settings.plan.resolution == "low":
        _check_low(data, settings, make_plan(task, data, replace(settings, plan=replace(settings.plan, resolution="full")), device))
    frame = _decide_frame(settings.plan, data)
    limit = settings.plan.patch_voxels or PATCH_VOXELS[(device, frame[0])]
    if settings.plan.rules == "nnunet":
        return _plan(task, data, settings, frame, limit)
    return within_memory(lambda voxels: _plan(task, data, settings, frame, voxels), limit, settings, device)


def _plan(task: str, data: Fingerprint, settings: Settings, frame: Frame, limit: int) -> Plan:
    """The plan with a patch of at most `limit` voxels."""
    wanted = settings.plan
    dims, axes, reasons = frame[0], frame[1], dict(frame[2])
    spacing = decide_spacing(wanted, data, dims, axes, reasons)
    if wanted.resolution == "low" and spacing is not None:
        spacing = _low(data, settings, frame, (spacing, limit), reasons)
    layout, batch = _layout(data, settings, frame, (spacing, limit), reasons)
    labels = described(_decide_labels(data), settings.dataset, data.label_meanings, reasons)
    told = settings.dataset.dicom.series if settings.dataset.layout == "dicom" else {}
    channels = tuple(replace(one, series=told.get(one.name, "")) for one in _decide_channels(wanted, data, reasons))
    return Plan(
        task=task,
        dims=dims,
        channels=channels,
        labels=labels,
        orient=not data.picture,
        axes=axes,
        spacing_mm=spacing,
        patch_size=layout.patch,
        batch_size=batch,
        nonzero=_decide_nonzero(data, reasons),
        flips=decide_flips(wanted, data, axes, dims, reasons, settings.dataset.regions),
        network=_network(settings.network, dims, layout, wanted.rules, reasons),
        ignore=data.ignore,
        sparse=_decide_sparse(settings.dataset.sparse, data, reasons),
        nearest=_decide_nearest(spacing, dims, reasons),
        skip_empty=_decide_skip_empty(channels, reasons),
        regions=decide_regions(settings.dataset.regions, labels, reasons),
        reasons=reasons,
    )


def _layout(
    data: Fingerprint, settings: Settings, frame: Frame, size: tuple[Spacing | None, int], reasons: dict[str, str]
) -> tuple[Topology, int]:
    """Patch, stages and batch at a spacing, with a patch of at most so many voxels."""
    (dims, axes, _), (spacing, limit) = frame, size
    median = median_shape(data, axes, spacing)
    if math.prod(median) > MOST_VOXELS:
        raise ConfigError(
            f"the median scan would have {'x'.join(map(str, median))} voxels on the network's grid; at most {MOST_VOXELS}: "
            "set a coarser plan.spacing_mm" + ("" if settings.plan.spacing_mm else ", or correct the spacings in the headers")
        )
    if settings.plan.rules == "nnunet":
        return decide_nnunet(settings, data, (spacing or (1.0, 1.0, 1.0))[:dims], median, reasons)
    layout = decide_patch(settings.plan, settings.network, (dims, axes), spacing, (median, limit), reasons)
    return layout, decide_batch(settings.plan, layout, reasons)


def _check_low(data: Fingerprint, settings: Settings, full: Plan) -> None:
    """Raises:
    ConfigError: there is no use in a low resolution, or no way to it.
    """
    if full.dims == 2 or full.spacing_mm is None:
        raise ConfigError("plan.resolution is low, which is for 3D networks: leave it out")
    if settings.plan.spacing_mm:
        raise ConfigError("plan.spacing_mm and plan.resolution=low are both set: leave one of them out")
    share = seen_share(full.patch_size, median_shape(data, full.axes, full.spacing_mm))
    if share >= SEEN_SHARE:
        raise ConfigError(
            f"the low resolution is no use: at the full one a patch sees {100 * share:.0f} % of the median scan already: leave it out"
        )


def _low(data: Fingerprint, settings: Settings, frame: Frame, size: tuple[Spacing, int], reasons: dict[str, str]) -> Spacing:
    """The spacing of the low resolution."""
    spacing, limit = size

    def seen(mm: Spacing) -> float:
        return seen_share(_layout(data, settings, frame, (mm, limit), {})[0].patch, median_shape(data, frame[1], mm))

    return decide_low(spacing, seen, reasons)


def _decide_frame(wanted: PlanSettings, data: Fingerprint) -> Frame:
    """Dimensions and axes, and why."""
    reasons: dict[str, str] = {}
    dims = _decide_dims(wanted, data, reasons)
    return dims, _decide_axes(dims, data, reasons), reasons


def _decide_dims(wanted: PlanSettings, data: Fingerprint, reasons: dict[str, str]) -> int:
    if wanted.dims == 1:
        raise ConfigError("plan.dims is 1; must be 2 or 3, or 0 to let the planner decide")
    if data.picture and wanted.dims == 3:
        raise ConfigError("plan.dims is 3, but the scans are pictures: set plan.dims=2, or 0 to let the planner decide")
    flat = all(min(shape) == 1 for shape in data.shapes)
    dims = wanted.dims or (2 if data.picture or flat else 3)
    reasons["dims"] = "set by hand" if wanted.dims else "pictures" if data.picture or flat else "volumes"
    return dims


def _decide_axes(dims: int, data: Fingerprint, reasons: dict[str, str]) -> tuple[int, int, int]:
    """Slices of a 2D network lie across the axis with the largest spacing (Isensee et al. 2021, Suppl. 2)."""
    if dims == 3 or data.picture:
        reasons["axes"] = "pictures as they are" if data.picture else "x, y, z"
        return (0, 1, 2)
    spacing = np.median(np.array(data.spacings_mm), axis=0)
    shape = np.median(np.array(data.shapes), axis=0)
    through = int(np.argmin(shape)) if shape.min() == 1 else 2 - int(np.argmax(spacing[::-1]))
    inside = [a for a in range(3) if a != through]
    reasons["axes"] = f"slices across {'xyz'[through]}, the axis with the largest spacing ({spacing[through]:.3g} mm)"
    return (inside[0], inside[1], through)


def _decide_channels(wanted: PlanSettings, data: Fingerprint, reasons: dict[str, str]) -> tuple[Channel, ...]:
    """`CT` is clipped and scaled by the data set, everything else scan by scan (Isensee et al. 2021, Suppl. 2)."""
    if wanted.normalisation and len(wanted.normalisation) != len(data.channels):
        raise ConfigError(
            f"plan.normalisation has {len(wanted.normalisation)} entries; the data has {len(data.channels)} channels: give one a channel"
        )
    kinds: dict[str, Normalisation] = {"zscore": "zscore", "ct": "ct", "rescale": "rescale", "none": "none"}
    channels = []
    for number, stats in enumerate(data.channels):
        automatic = "ct" if stats.name.strip().lower() in CT_NAMES else "zscore"
        chosen = wanted.normalisation[number] if wanted.normalisation else automatic
        if chosen not in kinds:
            raise ConfigError(f"plan.normalisation has {chosen!r}; allowed: {', '.join(kinds)}")
        lower, upper = (stats.minimum, stats.maximum) if chosen == "rescale" else (stats.p005, stats.p995)
        channels.append(Channel(stats.name, kinds[chosen], float(lower), float(upper), float(stats.mean), max(float(stats.std), 1e-8)))
    reasons["normalisation"] = "set by hand" if wanted.normalisation else "CT by the data set, the rest by each scan's mean and deviation"
    return tuple(channels)


def _decide_labels(data: Fingerprint) -> tuple[Label, ...]:
    """Values become 0..n in their order; the background is the value 0, or the lowest where there is no 0."""
    values = sorted(data.label_values)
    if len(values) < 2:
        raise DataError(f"the labels hold only the value(s) {values}; at least a background and one structure are needed")
    background = 0 if 0 in values else values[0]
    ordered = [background, *[value for value in values if value != background]]
    names = data.label_names
    return tuple(
        Label(index, value, names.get(value, "background" if index == 0 else f"label {value}")) for index, value in enumerate(ordered)
    )


def _decide_sparse(wanted: str, data: Fingerprint, reasons: dict[str, str]) -> Sparse:
    if wanted != "none" and data.picture:
        raise ConfigError(f"dataset.sparse is {wanted}, but pictures have no slices: remove it")
    if data.ignore or wanted != "none":
        values = [f"the label value(s) {', '.join(map(str, data.ignore))}"] if data.ignore else []
        slices = [f"slices across {wanted} without any label"] if wanted != "none" else []
        reasons["ignore"] = f"neither trained on nor validated: {' and '.join(values + slices)}"
    axes: dict[str, Sparse] = {"none": "none", "x": "x", "y": "y", "z": "z"}
    return axes[wanted]


def _decide_nearest(spacing: Spacing | None, dims: int, reasons: dict[str, str]) -> tuple[bool, bool, bool]:
    """Thick slices are not blended into one another: across them the nearest one is taken (Isensee et al. 2021, Suppl. 2)."""
    nearest = (False, False, False)
    reasons["resampling"] = (
        "pictures and slices keep their places" if spacing is None else "blended in the slices, which stay where they are"
    )
    if spacing is not None and dims == 3:
        thick = [mm > ANISOTROPIC * min(spacing) for mm in spacing]
        nearest = (thick[0], thick[1], thick[2])
        reasons["resampling"] = f"spacings {'differ by more than' if any(thick) else 'are within'} a factor of {ANISOTROPIC:g}"
    return nearest


def _decide_skip_empty(channels: Sequence[Channel], reasons: dict[str, str]) -> bool:
    """Where all channels are clipped, a window that is clipped everywhere holds nothing that a network could tell apart."""
    skip = all(channel.normalisation == "ct" for channel in channels)
    if skip:
        told = ", ".join(f"{channel.lower:.4g}" for channel in channels)
        reasons["skip_empty"] = f"windows without a voxel above {told}, the lower clip, are a constant to the network: background"
    return skip


def _decide_nonzero(data: Fingerprint, reasons: dict[str, str]) -> bool:
    nonzero = not data.picture and data.nonzero_share < NONZERO_SHARE
    reasons["nonzero"] = f"non-zero voxels fill a box of {100 * data.nonzero_share:.0f} % of the median scan" + (
        f", below {100 * NONZERO_SHARE:.0f} %: crop to it" if nonzero else ""
    )
    return nonzero


def _network(wanted: NetworkSettings, dims: int, layout: Topology, rules: str, reasons: dict[str, str]) -> NetworkPlan:
    stages = len(layout.strides)
    ignored = [f"network.{key}" for key in _UNET_ONLY if getattr(wanted, key) != getattr(NetworkSettings(), key)]
    if wanted.name != "unet" and ignored:
        log.warning("%s: without effect, a setting of the U-Net only (network=unet)", ", ".join(ignored))
    if wanted.features and len(wanted.features) != stages:
        raise ConfigError(
            f"network.features has {len(wanted.features)} numbers; the plan has {stages} stages: give {stages}, or set network.stages"
        )
    first = FIRST_FEATURES[(wanted.name, dims)]
    usual = tuple(min(first * 2**stage, MOST_FEATURES[dims]) for stage in range(stages))
    reasons["features"] = f"{first}, doubled each stage: a narrow network takes more steps in the same time"
    if rules == "nnunet":
        usual, reasons["features"] = nnunet_features(stages, dims), "nnU-Net's rule"
    if wanted.features:
        reasons["features"] = "set by hand"
    return NetworkPlan(
        name=wanted.name,
        features=tuple(wanted.features) or usual,
        kernels=_decide_kernels(wanted, dims, layout, reasons),
        strides=layout.strides,
        convolutions=wanted.convolutions,
        block=wanted.block,
        norm=wanted.norm,
        activation=wanted.activation if wanted.name == "unet" else "prelu",
        pooling=wanted.pooling if wanted.name == "unet" else "stride",
        padding=wanted.padding,
        dropout=wanted.dropout,
        deep_supervision=wanted.deep_supervision or rules == "nnunet",
    )


def _decide_kernels(wanted: NetworkSettings, dims: int, layout: Topology, reasons: dict[str, str]) -> tuple[tuple[int, ...], ...]:
    """Along an axis that is still too coarse a kernel does not look, unless set by hand for each stage and axis."""
    size = wanted.kernel_size or 3
    kernels = tuple(tuple(stage) for stage in wanted.kernels) or tuple(
        tuple(size if wide else 1 for wide in stage) for stage in layout.wide
    )
    if wanted.kernels and wanted.kernel_size:
        raise ConfigError("network.kernels and network.kernel_size are both set: leave one of them out")
    if len(kernels) != len(layout.strides) or any(len(stage) != dims for stage in kernels):
        raise ConfigError(
            f"network.kernels is {wanted.kernels}; must have {dims} numbers for each of the plan's {len(layout.strides)} stages"
        )
    if any(number % 2 == 0 for stage in kernels for number in stage):
        raise ConfigError(f"network.{f'kernels is {wanted.kernels}' if wanted.kernels else f'kernel_size is {size}'}; must be odd")
    by_rule = f"{size}; 1 along an axis until its spacing is within a factor of two of the finest"
    if wanted.name == "vnet" and not wanted.kernel_size:
        by_rule = f"{by_rule}; the published V-Net has 5, which reaches less in the same time"
    reasons["kernels"] = "set by hand" if wanted.kernels else by_rule
    return kernels
