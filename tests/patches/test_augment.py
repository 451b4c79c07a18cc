"""Whole augmentation of a batch: what must hold whatever is drawn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from segpipe.errors import ConfigError
from segpipe.patches.augment import LIMITS, Augment, check_augment
from segpipe.plan.plan import IGNORED
from segpipe.settings import AugmentSettings, Effect

CONF = Path(__file__).parents[2] / "conf" / "augment"
ALL = (True, True, True)


def load(name: str) -> AugmentSettings:
    values = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    return AugmentSettings(**{key: Effect(**effect) for key, effect in values.items()})


def batch(augment: Augment, count: int = 4, channels: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    image = torch.randn((count, channels, *augment.read_size), generator=generator)
    return image, torch.randint(0, 3, (count, *augment.read_size), generator=generator, dtype=torch.uint8)


def certain(settings: AugmentSettings) -> AugmentSettings:
    """The same effects, each of them always."""
    return AugmentSettings(
        **{f.name: dataclasses.replace(getattr(settings, f.name), probability=1.0) for f in dataclasses.fields(settings)}
    )


def middle(tensor: Tensor, patch: tuple[int, int, int]) -> Tensor:
    starts = [(n - p) // 2 for n, p in zip(tensor.shape[-3:], patch, strict=True)]
    i, j, k = (slice(s, s + p) for s, p in zip(starts, patch, strict=True))
    return tensor[..., i, j, k]


@pytest.mark.parametrize("name", ["none", "light", "full", "strong"])
def test_every_shipped_file_names_every_effect_with_a_possible_range(name: str) -> None:
    values = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    assert list(values) == [f.name for f in dataclasses.fields(AugmentSettings)]
    assert all(set(effect) == {"probability", "low", "high"} for effect in values.values())
    check_augment(certain(load(name)))
    assert (values["elastic"]["probability"] > 0) == (name == "strong")


def test_none_returns_the_patches_bit_for_bit() -> None:
    augment = Augment(load("none"), 3, ALL, (8, 9, 7))
    image, label = batch(augment)
    assert augment.read_size == (8, 9, 7)
    new_image, new_label = augment(image, label, torch.Generator().manual_seed(0))
    assert torch.equal(new_image, image)
    assert torch.equal(new_label, label)


@pytest.mark.parametrize(("patch", "dims"), [((12, 14, 10), 3), ((24, 20, 1), 2), ((24, 24, 6), 3)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_everything_at_once_works_on_any_patch(patch: tuple[int, int, int], dims: int, channels: int) -> None:
    augment = Augment(certain(load("full")), dims, ALL, patch)
    image, label = batch(augment, 2, channels)
    new_image, new_label = augment(image, label, torch.Generator().manual_seed(0))
    assert new_image.shape == (2, channels, *patch)
    assert new_label.shape == (2, *patch)
    assert new_image.isfinite().all()
    assert new_label.max() <= 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_types_stay_and_inputs_are_not_written_into(dtype: torch.dtype) -> None:
    augment = Augment(certain(load("full")), 3, ALL, (10, 10, 10))
    image, label = batch(augment)
    label = label.to(dtype)
    before = image.clone(), label.clone()
    new_image, new_label = augment(image, label, torch.Generator().manual_seed(0))
    assert (new_image.dtype, new_label.dtype) == (torch.float32, dtype)
    assert torch.equal(image, before[0])
    assert torch.equal(label, before[1])


def test_the_same_seed_gives_the_same_patches_bit_for_bit() -> None:
    augment = Augment(certain(load("full")), 3, ALL, (10, 12, 11))
    image, label = batch(augment)
    first = augment(image, label, torch.Generator().manual_seed(3))
    torch.manual_seed(1)  # the global state plays no part
    second = augment(image, label, torch.Generator().manual_seed(3))
    other = augment(image, label, torch.Generator().manual_seed(4))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


def test_a_bf16_training_step_does_not_round_what_is_augmented() -> None:
    augment = Augment(certain(load("full")), 3, ALL, (20, 18, 16))
    image, label = batch(augment)
    expected = augment(image, label, torch.Generator().manual_seed(3))
    with torch.autocast("cpu", torch.bfloat16):
        found = augment(image, label, torch.Generator().manual_seed(3))
    assert found[0].dtype == torch.float32
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


def test_patches_for_which_nothing_was_drawn_come_out_as_they_were_cut() -> None:
    augment = Augment(AugmentSettings(rotate=Effect(0.5, 10, 20)), 3, ALL, (8, 8, 8))
    image, label = batch(augment, 40)
    new_image, new_label = augment(image, label, torch.Generator().manual_seed(0))
    same = (new_image == middle(image, (8, 8, 8))).flatten(1).all(1)
    assert 8 <= int(same.sum()) <= 32
    assert torch.equal(new_label[same], middle(label, (8, 8, 8))[same])


def test_a_left_right_axis_is_never_mirrored_and_the_others_are() -> None:
    augment = Augment(AugmentSettings(flip=Effect(0.5)), 3, (False, True, True), (6, 6, 6))
    ramp = torch.arange(6.0)
    image = (ramp[:, None, None] + 10 * ramp[None, :, None] + 100 * ramp[None, None, :]).expand(60, 1, 6, 6, 6)
    found, _ = augment(image, image[:, 0].long(), torch.Generator().manual_seed(0))
    assert bool((found.diff(dim=2) == 1).all())
    for axis, step in ((3, 10), (4, 100)):
        signs = {int(s) for s in found.diff(dim=axis)[:, 0, 0, 0, 0].tolist()}
        assert signs == {step, -step}


def test_a_batch_of_pieces_of_another_size_is_refused() -> None:
    augment = Augment(load("full"), 3, ALL, (8, 8, 8))
    with pytest.raises(ValueError, match="must have pieces of"):
        augment(torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 8, 8, 8, dtype=torch.uint8), torch.Generator())


def one_structure(augment: Augment, count: int) -> tuple[Tensor, Tensor]:
    """Pieces of noise with one labelled voxel in the corner of the patch, and voxels around that nobody has judged."""
    image, label = batch(augment, count)
    label.zero_()
    i, j, k = ((read - patch) // 2 for read, patch in zip(augment.read_size, augment.patch_size, strict=True))
    label[:, i, j, k], label[:, i + 1, j, k] = 1, IGNORED
    return image, label


@pytest.mark.parametrize("strength", [AugmentSettings(rotate=Effect(0.6, 30, 40)), AugmentSettings(crop=Effect(1.0, 0.3, 0.4))])
def test_a_patch_that_was_cut_with_a_labelled_voxel_comes_out_with_one(strength: AugmentSettings) -> None:
    augment = Augment(strength, 3, ALL, (12, 12, 12))
    image, label = one_structure(augment, 16)
    found, found_label = augment(image, label, torch.Generator().manual_seed(0))
    assert bool((found_label == 1).flatten(1).any(1).all())
    assert torch.equal(augment(image, label, torch.Generator().manual_seed(0))[0], found)


def test_a_patch_that_loses_its_label_at_every_draw_stays_where_it_was_cut_and_image_and_label_agree() -> None:
    augment = Augment(AugmentSettings(crop=Effect(1.0, 0.3, 0.4)), 3, ALL, (12, 12, 12))
    image, label = one_structure(augment, 3)
    found, found_label = augment(image, label, torch.Generator().manual_seed(0))
    assert torch.equal(found, middle(image, (12, 12, 12)))
    assert torch.equal(found_label, middle(label, (12, 12, 12)))


def test_patches_without_a_label_are_moved_once_only() -> None:
    augment = Augment(certain(load("light")), 3, ALL, (10, 10, 10))
    image, label = batch(augment)
    kept = augment(image, label, torch.Generator().manual_seed(0))
    for empty in (torch.zeros_like(label), torch.full_like(label, IGNORED)):
        assert torch.equal(augment(image, empty, torch.Generator().manual_seed(0))[0], kept[0])


def test_spacing_reaches_the_moves_and_what_is_read() -> None:
    chosen = AugmentSettings(rotate=Effect(1.0, 30, 30))
    sizes = {mm: Augment(chosen, 3, ALL, (32, 32, 16), mm).read_size for mm in (None, (0.8, 0.8, 0.8), (1.0, 1.0, 2.5), (1.0, 1.0, 4.0))}
    assert sizes[None] == sizes[0.8, 0.8, 0.8] == (44, 44, 30)
    assert sizes[1.0, 1.0, 2.5] == (48, 48, 22)
    assert sizes[1.0, 1.0, 4.0] == (44, 44, 16)  # slice by slice
    assert Augment(chosen, 2, ALL, (32, 32, 1), (1.0, 1.0, 0.0)).read_size == Augment(chosen, 2, ALL, (32, 32, 1)).read_size


@pytest.mark.parametrize("name", LIMITS)
def test_an_impossible_range_is_refused_by_the_name_of_its_setting(name: str) -> None:
    low, high = LIMITS[name]
    for effect in (Effect(0.1, low - 1, high), Effect(0.1, low, high + 1), Effect(0.1, float("nan"), high), Effect(1.5, low, high)):
        with pytest.raises(ConfigError, match=rf"augment\.{name}\..*must be from"):
            check_augment(AugmentSettings(**{name: effect}))
    with pytest.raises(ConfigError, match=rf"augment\.{name}\.low .*swap"):
        check_augment(AugmentSettings(**{name: Effect(0.1, high, low)}))
    check_augment(AugmentSettings(**{name: Effect(0.0, low - 1, high)}))  # an effect that never happens may hold anything


@pytest.mark.gpu
def test_a_gpu_draws_the_same_and_computes_the_same_within_rounding() -> None:
    augment = Augment(dataclasses.replace(certain(load("full")), noise=Effect()), 3, ALL, (12, 14, 10))  # noise is drawn on the GPU itself
    image, label = batch(augment)
    here = augment(image, label, torch.Generator().manual_seed(3))
    there = augment(image.cuda(), label.cuda(), torch.Generator().manual_seed(3))
    assert (there[0].device.type, there[1].device.type) == ("cuda", "cuda")
    assert ((there[0].cpu() - here[0]).abs() < 1e-2).float().mean() > 0.99
    assert (there[1].cpu() == here[1]).float().mean() > 0.99
