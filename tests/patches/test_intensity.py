"""Changes of value against SciPy, MONAI and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, GaussianSmooth
from scipy import ndimage
from torch import Tensor

from segpipe.patches import intensity
from segpipe.patches.intensity import ORDER, Change, change_values
from segpipe.settings import AugmentSettings, Effect

SPACE = (0, 1, 2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_one(change: Change, patch: Tensor, effect: Effect, generator: torch.Generator, plane: tuple[int, ...]) -> Tensor:
    """A change of one patch (C, I, J, K)."""
    return change(patch[None], effect, generator, plane)[0]


def some_patch(channels: int = 2, shape: tuple[int, int, int] = (14, 12, 10)) -> Tensor:
    return torch.randn((channels, *shape), generator=seeded(1)) + torch.arange(channels)[:, None, None, None]


def test_noise_has_the_deviation_that_was_drawn() -> None:
    patch = torch.zeros((2, 30, 30, 30))
    noisy = on_one(intensity.noise, patch, Effect(1.0, 0.3, 0.3), seeded(), SPACE)
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.02)
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.7])
def test_blur_equals_scipy_and_monai_away_from_the_border(sigma: float) -> None:
    patch = some_patch(2, (30, 28, 26))
    found = on_one(intensity.blur, patch, Effect(1.0, sigma, sigma), seeded(), SPACE)[:, 8:-8, 8:-8, 8:-8]
    expected = np.stack([ndimage.gaussian_filter(c.double().numpy(), sigma, truncate=8) for c in patch])[:, 8:-8, 8:-8, 8:-8]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    theirs = np.asarray(GaussianSmooth(sigma, approx="sampled")(patch))[:, 8:-8, 8:-8, 8:-8]
    theirs = theirs / float(
        GaussianSmooth(sigma, approx="sampled")(torch.ones(1, 30, 28, 26))[0, 15, 14, 13]
    )  # its weights do not sum to 1
    np.testing.assert_allclose(found.numpy(), theirs, atol=2e-3)  # it cuts the kernel at four sigma


def test_blur_keeps_a_constant_patch_up_to_its_border() -> None:
    found = on_one(intensity.blur, torch.full((1, 9, 7, 5), 3.0), Effect(1.0, 2.0, 2.0), seeded(), SPACE)
    torch.testing.assert_close(found, torch.full((1, 9, 7, 5), 3.0))


def test_blur_and_low_resolution_leave_the_axis_across_thick_slices_alone() -> None:
    slices = torch.arange(6.0).expand(1, 12, 12, 6)
    for change, strength in ((intensity.blur, 2.0), (intensity.low_resolution, 0.4)):
        torch.testing.assert_close(on_one(change, slices, Effect(1.0, strength, strength), seeded(), (0, 1)), slices, atol=1e-5, rtol=1e-5)


def plain_low_resolution(line: np.ndarray, zoom: float) -> np.ndarray:
    """Nearest down, linear up, voxel centres aligned by the edges of the line."""
    full = len(line)
    small = max(round(full * zoom), 1)
    shrunk = [line[int((at + 0.5) * full / small)] for at in range(small)]
    places = np.clip((np.arange(full) + 0.5) * small / full - 0.5, 0, small - 1)
    return np.interp(places, np.arange(small), shrunk)


@pytest.mark.parametrize("zoom", [0.31, 0.5, 0.75, 1.0])
def test_low_resolution_equals_a_plain_loop(zoom: float) -> None:
    patch = some_patch(1)
    found = on_one(intensity.low_resolution, patch, Effect(1.0, zoom, zoom), seeded(), SPACE)[0].numpy()
    expected = patch[0].double().numpy()
    for axis in range(3):
        expected = np.apply_along_axis(plain_low_resolution, axis, expected, zoom)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_brightness_multiplies() -> None:
    patch = some_patch()
    torch.testing.assert_close(on_one(intensity.brightness, patch, Effect(1.0, 1.3, 1.3), seeded(), SPACE), patch * 1.3)


def test_contrast_spreads_around_the_mean_and_stays_in_the_range_of_each_channel() -> None:
    patch = some_patch()
    found = on_one(intensity.contrast, patch, Effect(1.0, 1.5, 1.5), seeded(), SPACE)
    for old, new in zip(patch, found, strict=True):
        expected = ((old - old.mean()) * 1.5 + old.mean()).clamp(old.min(), old.max())
        torch.testing.assert_close(new, expected)


def test_gamma_equals_monai_in_both_directions() -> None:
    patch = some_patch(1)
    expected = [np.asarray(AdjustContrast(1.4, invert_image=inverted, retain_stats=True)(patch)) for inverted in (False, True)]
    seen = set()
    for seed in range(12):
        found = on_one(intensity.gamma, patch, Effect(1.0, 1.4, 1.4), seeded(seed), SPACE).numpy()
        matches = [bool(np.allclose(found, one, atol=1e-4)) for one in expected]
        assert sum(matches) == 1
        seen.add(matches.index(True))
    assert seen == {0, 1}


def test_gamma_keeps_mean_and_deviation_of_each_channel() -> None:
    patch = some_patch(3) * 5
    found = on_one(intensity.gamma, patch, Effect(1.0, 0.6, 0.6), seeded(), SPACE)
    torch.testing.assert_close(found.mean((1, 2, 3)), patch.mean((1, 2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.std((1, 2, 3)), patch.std((1, 2, 3)), atol=1e-4, rtol=1e-4)


def test_channel_shift_adds_one_value_to_each_channel() -> None:
    patch = some_patch(3)
    added = on_one(intensity.channel_shift, patch, Effect(1.0, -1.0, 1.0), seeded(), SPACE) - patch
    for channel in added:
        torch.testing.assert_close(channel, torch.full_like(channel, float(channel.mean())), atol=1e-5, rtol=0)
    means = added.mean((1, 2, 3))
    assert len({round(float(m), 4) for m in means}) == 3
    assert means.abs().max() <= 1


def test_whitening_is_the_normalisation_with_a_wrong_mean_and_deviation() -> None:
    patch = some_patch(2)
    found = on_one(intensity.whitening, patch, Effect(1.0, 0.1, 0.1), seeded(), SPACE)
    torch.testing.assert_close(found, (patch - 0.1) / 1.1)


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize("shape", [(1, 9, 8, 7), (3, 16, 12, 1), (2, 5, 6, 4)])
def test_every_effect_keeps_shape_and_stays_finite_on_constant_patches_too(name: str, shape: tuple[int, ...]) -> None:
    effect = Effect(1.0, 0.6, 0.6)
    for patch in (torch.full(shape, 2.0), torch.zeros(shape), torch.randn(shape, generator=seeded())):
        before = patch.clone()
        found = on_one(ORDER[name], patch, effect, seeded(), (0, 1))
        assert found.shape == patch.shape
        assert found.isfinite().all()
        assert torch.equal(patch, before)


def test_patches_for_which_nothing_is_drawn_are_not_touched() -> None:
    for name in ORDER:
        image = torch.randn((40, 1, 4, 4, 4), generator=seeded(2))
        before = image.clone()
        change_values(image, AugmentSettings(**{name: Effect(0.5, 0.3, 0.6)}), SPACE, seeded())
        same = (image == before).flatten(1).all(1)
        assert 8 <= int(same.sum()) <= 32


def test_every_effect_on_values_has_its_function() -> None:
    spatial = {"rotate", "translate", "shear", "scale", "flip", "elastic", "crop"}
    assert set(ORDER) | spatial == set(AugmentSettings.__dataclass_fields__)
