"""Patches a second, cut and augmented: segpipe's batched augmentation against MONAI's dictionary transforms, in one run.

    python benchmarks/augment.py [--threads 2] [--seconds 6] [--json FILE]

Both draw labelled patches from the same synthetic volumes in memory, read the same margin, and apply `conf/augment/full.yaml` with the same
probabilities and ranges: crop by label classes, one affine resampling (rotation, shear, translation, zoom), mirroring, noise, blur,
brightness, gamma, low resolution, shift of values. (MONAI has no transform for segpipe's contrast, whitening and crop jitter: segpipe does
them on top. Its label map is resampled to the nearest voxel, segpipe's by vote.) Runs alternate, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandCropByLabelClassesd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSimulateLowResolutiond,
)
from omegaconf import OmegaConf
from torch import Tensor

from segpipe.patches.augment import Augment
from segpipe.patches.sampling import cut, draw_centre, positions
from segpipe.settings import AugmentSettings, Effect

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {
    # name: (channels, volume, patch, batch)
    "3D, 1 channel": (1, (96, 112, 96), (40, 56, 40), 4),
    "3D, 2 channels": (2, (96, 112, 96), (40, 56, 40), 4),
    "2D, 1 channel": (1, (512, 512, 1), (256, 256, 1), 8),
}
Volume = tuple[Tensor, Tensor]


def volumes(channels: int, shape: tuple[int, int, int], count: int = 4) -> list[Volume]:
    """Noise with two labelled ellipsoids in it."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape], indexing="ij")
    made = []
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        label = torch.zeros(shape, dtype=torch.uint8)
        for index in (1, 2):
            centre = torch.where(torch.tensor(shape) > 1, torch.rand(3, generator=generator) - 0.5, 0.0)
            label[sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < 0.1] = index
        made.append((torch.randn((channels, *shape), generator=generator) + label, label))
    return made


def full() -> AugmentSettings:
    values: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "augment" / "full.yaml"))
    return AugmentSettings(**{name: Effect(**effect) for name, effect in values.items()})


def ours(data: list[Volume], augment: Augment, batch: int) -> Callable[[], int]:
    """One batch a call."""
    generator = torch.Generator().manual_seed(0)
    places = [positions(label) for _, label in data]

    def step() -> int:
        pieces = []
        for number in torch.randint(len(data), (batch,), generator=generator).tolist():
            image, label = data[number]
            centre = draw_centre(label.shape, places[number], True, augment.patch_size, generator)
            pieces.append(cut(image, label, centre, augment.read_size))
        images, _ = augment(torch.stack([p[0] for p in pieces]), torch.stack([p[1] for p in pieces]), generator)
        return len(images)

    return step


def monai_transforms(chosen: AugmentSettings, augment: Augment, flat: bool) -> Compose:
    """The same effects by MONAI's names; two dimensions drop the last axis, as its users do."""
    axes = 2 if flat else 3
    read, patch = augment.read_size[:axes], augment.patch_size[:axes]
    spatial = (chosen.rotate, chosen.translate, chosen.shear, chosen.scale)
    any_of_them = 1 - float(np.prod([1 - effect.probability for effect in spatial]))
    return Compose(
        [
            RandCropByLabelClassesd(
                ["image", "label"],
                "label",
                read,
                ratios=[0, 1, 1],
                num_classes=3,
                num_samples=1,
                indices_key="indices",
                allow_smaller=False,
            ),
            RandAffined(
                ["image", "label"],
                spatial_size=patch,
                prob=any_of_them,
                rotate_range=[np.deg2rad(chosen.rotate.high)] * (1 if flat else 3),
                shear_range=[chosen.shear.high] * (2 if flat else 6),
                translate_range=[chosen.translate.high * n for n in patch],
                scale_range=[(chosen.scale.low - 1, chosen.scale.high - 1)] * axes,
                mode=["bilinear", "nearest"],
                padding_mode="zeros",
            ),
            *[RandFlipd(["image", "label"], prob=chosen.flip.probability, spatial_axis=axis) for axis in range(axes)],
            RandGaussianNoised("image", prob=chosen.noise.probability, std=chosen.noise.high),
            RandGaussianSmoothd("image", *[(chosen.blur.low, chosen.blur.high)] * 3, prob=chosen.blur.probability),
            RandScaleIntensityd("image", factors=chosen.brightness.high - 1, prob=chosen.brightness.probability),
            RandSimulateLowResolutiond(
                "image",
                prob=chosen.low_resolution.probability,
                upsample_mode="bilinear" if flat else "trilinear",
                zoom_range=(chosen.low_resolution.low, chosen.low_resolution.high),
            ),
            RandAdjustContrastd("image", prob=chosen.gamma.probability, gamma=(chosen.gamma.low, chosen.gamma.high), retain_stats=True),
            RandShiftIntensityd("image", offsets=chosen.channel_shift.high, prob=chosen.channel_shift.probability),
        ]
    ).set_random_state(0)


def monai_set(data: list[Volume], transforms: Compose, flat: bool) -> Dataset:
    """An endless enough data set over the volumes, with the positions of each class found beforehand."""
    items = []
    for image, label in data:
        found = positions(label)
        indices = [np.zeros(1, dtype=np.int64), *[found[index].numpy() for index in (1, 2)]]
        items.append({"image": image[..., 0] if flat else image, "label": label[None, ..., 0] if flat else label[None], "indices": indices})
    return Dataset(items * 100_000, transforms)


def theirs(data: Dataset, batch: int) -> Callable[[], int]:
    """One batch a call, in this process."""
    numbers = itertools.count()

    def step() -> int:
        pieces = [data[next(numbers)][0] for _ in range(batch)]
        images, labels = (torch.stack([piece[key].as_tensor() for piece in pieces]) for key in ("image", "label"))
        return min(len(images), len(labels))

    return step


def rates(steps: dict[str, Callable[[], int]], seconds: float, rounds: int = 3) -> dict[str, dict[str, float]]:
    """Patches a second and processor milliseconds a patch of each, the median over alternating rounds."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            begin, busy, patches = time.perf_counter(), time.process_time(), 0
            while time.perf_counter() - begin < seconds / rounds:
                patches += step()
            measured[name].append((patches / (time.perf_counter() - begin), 1000 * (time.process_time() - busy) / patches))
    return {
        name: {
            "patches_per_second": sorted(r for r, _ in values)[rounds // 2],
            "cpu_ms_per_patch": sorted(c for _, c in values)[rounds // 2],
        }
        for name, values in measured.items()
    }


def loader_rate(data: Dataset, batch: int, workers: int, seconds: float) -> float:
    """Patches a second of MONAI's loader with worker processes, after the first batches have filled its queue."""
    loader = iter(DataLoader(data, batch_size=batch, num_workers=workers))
    for _ in range(3 * workers):
        next(loader)
    begin, patches = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        patches += len(next(loader)["image"])
    return patches / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each figure")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen, results = full(), {}
    print(f"{'':<15}{'patch':<12}{'segpipe':>19}{'MONAI':>19}{f'MONAI, {options.threads} workers':>18}")
    for name, (channels, shape, patch, batch) in SETTINGS.items():
        flat = patch[2] == 1
        data, augment = volumes(channels, shape), Augment(chosen, 2 if flat else 3, (True, True, not flat), patch)
        monai = monai_set(data, monai_transforms(chosen, augment, flat), flat)
        found = rates({"segpipe": ours(data, augment, batch), "monai": theirs(monai, batch)}, options.seconds)
        workers = loader_rate(monai, batch, options.threads, options.seconds / 2)
        results[name] = {**found, "monai_workers": {"patches_per_second": workers}}
        cells = [f"{f['patches_per_second']:.0f}/s ({f['cpu_ms_per_patch']:.1f} ms)" for f in found.values()]
        print(f"{name:<15}{'x'.join(map(str, patch)):<12}{cells[0]:>19}{cells[1]:>19}{f'{workers:.0f}/s':>18}", flush=True)
    print("patches per second (processor milliseconds a patch, all threads)")
    text = json.dumps({"threads": options.threads, "torch": torch.__version__, "results": results}, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
