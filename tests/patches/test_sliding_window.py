"""The sliding window against MONAI's, an identity network and its own promises."""

from __future__ import annotations

import gc
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from segpipe.errors import ConfigError, ModelError
from segpipe.geometry.grid import Box
from segpipe.patches.sliding_window import Empty, Slowest, most_kept, slabs, sliding_blocks, sliding_window
from segpipe.patches.windows import gaussian_weights, window_starts, windows_at_once

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14))


def some_image(shape: tuple[int, ...] = (2, 19, 14, 11), seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def convolution(dims: int = 3) -> nn.Module:
    """A predictor whose zero padding makes each window differ at its border, so that blending shows."""
    torch.manual_seed(1)
    layer = nn.Conv3d(2, 3, 3 if dims == 3 else (3, 3, 1), padding=1 if dims == 3 else (1, 1, 0))
    return layer.requires_grad_(False)


@settings(max_examples=100, deadline=None)
@given(shape=SHAPES, window=SHAPES, overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]), batch=st.integers(1, 5))
def test_an_identity_network_returns_the_volume(shape: tuple, window: tuple, overlap: float, batch: int) -> None:
    image = some_image((1, *shape))
    torch.testing.assert_close(sliding_window(image, lambda x: x, window, overlap, batch), image, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(20, 14, 26), (8, 8, 8), (5, 32, 6), (3, 3, 3)])
@pytest.mark.parametrize("overlap", [0.25, 0.75])
def test_a_convolution_gives_what_monai_gives_where_windows_fit_evenly(shape: tuple[int, int, int], overlap: float) -> None:
    image, network, window = some_image((2, *shape)), convolution(), (8, 8, 8)
    expected = sliding_window_inference(image[None], window, 2, network, overlap=overlap, mode="gaussian")[0]
    torch.testing.assert_close(sliding_window(image, network, window, overlap, 2), expected, atol=1e-5, rtol=1e-4)


def test_a_flat_window_walks_through_the_slices_as_monai_does() -> None:
    image, network, window = some_image((2, 20, 16, 4)), convolution(2), (8, 8, 1)
    expected = sliding_window_inference(image[None], window, 3, network, overlap=0.5, mode="gaussian")[0]
    torch.testing.assert_close(sliding_window(image, network, window, 0.5, 3), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "window", "overlap", "starts"), [(273, 128, 0.5, [0, 48, 97, 145]), (19, 8, 0.5, [0, 4, 7, 11]), (8, 8, 0, [0])]
)
def test_windows_are_spread_evenly_from_edge_to_edge(size: int, window: int, overlap: float, starts: list[int]) -> None:
    assert window_starts(size, window, overlap) == starts


def test_the_weights_are_those_of_monai() -> None:
    expected = compute_importance_map((9, 16, 1), mode="gaussian", sigma_scale=0.125)
    torch.testing.assert_close(gaussian_weights((9, 16, 1)), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_predictor_that_writes_into_its_input_spoils_nothing(batch: int) -> None:
    image = some_image((1, 12, 9, 7))
    before = image.clone()
    result = sliding_window(image, lambda x: x.mul_(2), (6, 6, 6), 0.5, batch)
    assert torch.equal(image, before)
    torch.testing.assert_close(result, 2 * before, atol=1e-5, rtol=1e-5)


def test_the_output_of_the_predictor_is_not_written_into() -> None:
    kept: list[Tensor] = []

    def predict(windows: Tensor) -> Tensor:
        kept.append(torch.ones_like(windows))
        return kept[-1]

    sliding_window(some_image((1, 12, 9, 7)), predict, (6, 6, 6), 0.5, 1)
    assert all(bool((k == 1).all()) for k in kept)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_predictions_are_gathered_in_float32(dtype: torch.dtype) -> None:
    image = torch.full((1, 20, 20, 20), 1.0 / 3)
    value = float(image.to(dtype)[0, 0, 0, 0])
    result = sliding_window(image, lambda x: x.to(dtype), (8, 8, 8), 0.75, 4)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.full_like(result, value), atol=1e-6, rtol=0)


def test_batches_are_all_of_one_size_and_as_even_as_they_can_be() -> None:
    def sizes_of(length: int, batch: int) -> list[int]:
        sizes: list[int] = []

        def predict(windows: Tensor) -> Tensor:
            sizes.append(windows.shape[0])
            return windows

        image = some_image((1, length, 8, 8))
        torch.testing.assert_close(sliding_window(image, predict, (8, 8, 8), 0.5, batch), image, atol=2e-6, rtol=1e-5)
        return sizes

    assert sizes_of(20, 3) == [2, 2]  # starts 0, 4, 8, 12
    assert sizes_of(24, 4) == [3, 3]  # five windows: the last batch is filled up, and what fills it is not used
    assert sizes_of(24, 64) == [5]


def owned(box: Box, shape: tuple[int, int, int], before: tuple[bool, bool, bool]) -> tuple[slice, ...]:
    """What is a block's own: a voxel that it has in common with one beside it belongs to the upper of the two, or the larger where one is
    that voxel alone.
    """
    own = []
    for (start, stop), n, lead in zip(box, shape, before, strict=True):
        inside = lead and stop - start == 1 < n
        own.append(slice(start, start if inside else stop - (lead and stop < n)))
    return tuple(own)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 60), st.integers(1, 40)),
    window=st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30)),
    overlap=st.sampled_from([0.0, 0.3, 0.5]),
    before=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_blocks_cover_the_volume_once_but_for_what_comes_before(shape: tuple, window: tuple, overlap: float, before: tuple) -> None:
    image = some_image((1, *shape))
    covered, begun = torch.zeros(shape, dtype=torch.int32), torch.zeros(shape, dtype=torch.int32)
    for box, block in sliding_blocks(image, lambda x: x, window, overlap, 0, before=before):
        place = tuple(slice(*ends) for ends in box)
        torch.testing.assert_close(block, image[(slice(None), *place)], atol=2e-6, rtol=1e-5)
        assert block.is_contiguous()
        begun[place] += 1
        covered[owned(box, shape, before)] += 1
        block.fill_(math.nan)  # it is ours: nothing that follows may depend on it
    assert bool((covered == 1).all())
    assert bool((begun >= 1).all())


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(1, 40)),
    window=st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30)),
    overlap=st.sampled_from([0.0, 0.3, 0.5]),
    before=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    slowest=st.builds(Slowest, st.integers(0, 2), st.booleans()),
)
def test_windows_walk_along_the_axis_and_from_the_end_that_is_asked_for(
    shape: tuple, window: tuple, overlap: float, before: tuple, slowest: Slowest
) -> None:
    image, network = some_image((2, *shape)), convolution()
    expected = sliding_window(image, network, window, overlap, 2)
    covered, number = torch.zeros(shape, dtype=torch.int32), 0
    expected_slabs = slabs(shape, window, overlap, slowest)

    def slab(number: int) -> tuple[int, int]:
        start, stop = expected_slabs[number]
        shared = before[slowest.axis] and number > 0
        return (start, stop + shared) if slowest.backward else (start - shared, stop)

    for box, block in sliding_blocks(image, network, window, overlap, 2, before=before, slowest=slowest):
        torch.testing.assert_close(block, expected[(slice(None), *(slice(*ends) for ends in box))], atol=1e-5, rtol=1e-5)
        covered[owned(box, shape, before)] += 1
        number += box[slowest.axis] != slab(number)
        assert box[slowest.axis] == slab(number)  # one slab after the other, and never back to one that was left
        block.fill_(math.nan)  # it is ours: nothing that follows may depend on it
    assert bool((covered == 1).all())
    assert expected_slabs == sorted(expected_slabs, reverse=slowest.backward) and number == len(expected_slabs) - 1


def kept_at_most(shape: tuple[int, int, int], window: tuple[int, int, int], classes: int, slowest: Slowest | None = None) -> int:
    """Most numbers of logits that are alive while a network computes."""
    most, network = 0, nn.Conv3d(1, classes, 1).requires_grad_(False)

    def predict(windows: Tensor) -> Tensor:
        nonlocal most
        tensors = [one for one in gc.get_objects() if type(one) is Tensor and one.ndim == 4 and one.shape[0] == classes]
        storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() // 4 for one in tensors}
        most = max(most, sum(storages.values()))
        return network(windows)

    gc.collect()
    gc.freeze()  # so that only what is made from here on is looked through
    for _, block in sliding_blocks(some_image((1, *shape)), predict, window, 0.5, 1, slowest=slowest):
        del block
    gc.unfreeze()
    return most


def test_what_is_kept_of_the_logits_is_a_few_slabs_whatever_the_length() -> None:
    classes, window = 7, (16, 16, 16)
    short, long = (kept_at_most((24, length, 24), window, classes) for length in (120, 240))
    assert 0 < short == long <= classes * 24 * 24 * 40
    told = most_kept((24, 240, 24), window, 0.5)
    assert long <= classes * told <= 1.5 * long


@pytest.mark.parametrize("slowest", [Slowest(0), Slowest(1, backward=True), Slowest(2)])
def test_memory_is_told_for_any_slowest_axis(slowest: Slowest) -> None:
    classes, shape, window = 7, (24, 40, 32), (16, 16, 16)
    kept, told = kept_at_most(shape, window, classes, slowest), classes * most_kept(shape, window, 0.5, slowest)
    assert 0 < kept <= told <= 1.5 * kept
    assert told >= classes * most_kept(shape, window, 0.5)


@pytest.mark.parametrize("shape", [(273, 273, 250), (250, 273, 273), (100, 300, 128)])
def test_memory_is_told_before_and_hardly_depends_on_the_order_of_axes(shape: tuple[int, int, int]) -> None:
    told = most_kept(shape, (128, 128, 128), 0.5)
    across = sorted(shape)[0] * sorted(shape)[1]
    assert 64 * across <= told <= 128 * across


def test_empty_windows_are_not_looked_at_and_take_no_part() -> None:
    image = torch.zeros(1, 40, 8, 8)
    image[:, :9] = 5.0
    seen: list[Tensor] = []

    def predict(windows: Tensor) -> Tensor:
        seen.append(windows.clone())
        return torch.cat([windows, 2 * windows], dim=1)

    blocks = list(sliding_blocks(image, predict, (8, 8, 8), 0.5, 1, empty=Empty((0.0,), (20.0, -20.0))))
    result = torch.cat([block for _, block in blocks], dim=1)
    assert len(seen) == 3  # windows begin at 0, 4 and 8; of those at 12 and beyond none holds anything
    torch.testing.assert_close(result[:, :16], torch.cat([image, 2 * image])[:, :16])
    assert bool((result[0, 16:] == 20).all() and (result[1, 16:] == -20).all())


def test_a_volume_of_empty_windows_needs_no_network() -> None:
    def predict(windows: Tensor) -> Tensor:
        raise AssertionError("nothing to look at")

    blocks = list(sliding_blocks(torch.zeros(1, 9, 8, 8), predict, (8, 8, 8), 0.5, 1, empty=Empty((0.0,), (20.0, -20.0))))
    assert sum(block[0].numel() for _, block in blocks) == 9 * 8 * 8
    assert all(bool((block[0] == 20).all() and (block[1] == -20).all()) for _, block in blocks)


def test_the_result_is_the_same_bit_for_bit_every_time() -> None:
    image, network = some_image(), convolution()
    first = sliding_window(image, network, (8, 8, 8), 0.5, 2)
    assert torch.equal(first, sliding_window(image, network, (8, 8, 8), 0.5, 2))


def test_the_result_keeps_no_gradient() -> None:
    network = convolution().requires_grad_(True)
    assert not sliding_window(some_image(), network, (8, 8, 8), 0.5, 2).requires_grad


@pytest.mark.parametrize(
    ("window", "overlap", "batch"), [((8, 8, 8), 1.0, 1), ((8, 8, 8), -0.1, 1), ((8, 0, 8), 0.5, 1), ((8, 8, 8), 0.5, -1)]
)
def test_settings_out_of_range_are_refused(window: tuple[int, int, int], overlap: float, batch: int) -> None:
    with pytest.raises(ConfigError, match="must"):
        sliding_window(some_image(), lambda x: x, window, overlap, batch)


def test_a_network_that_changes_the_size_is_refused() -> None:
    with pytest.raises(ModelError, match="must keep batch and spatial size"):
        sliding_window(some_image(), lambda x: x[..., 1:], (8, 8, 8), 0.5, 1)


@pytest.mark.parametrize(("window", "expected"), [((40, 56, 1), 56), ((256, 256, 1), 4), ((40, 56, 40), 2), ((128, 128, 128), 1)])
def test_small_windows_go_together_and_large_ones_alone(window: tuple[int, int, int], expected: int) -> None:
    sizes: list[int] = []

    def predict(windows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(windows))
        return windows

    image = torch.zeros(1, 2 * window[0], 2 * window[1], 70 if window[2] == 1 else 2 * window[2])
    sliding_window(image, predict, window, 0.0, 0)
    assert max(sizes) == expected


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_windows_done_are_told_after_each_batch(batch: int) -> None:
    image, told = some_image((1, 20, 8, 8)), list[tuple[int, int]]()
    sliding_window(image, lambda x: x, (8, 8, 8), 0.5, batch, lambda done, total: told.append((done, total)))  # starts 0, 4, 8, 12
    size = {1: 1, 3: 2, 64: 4}[batch]
    assert told == [(done, 4) for done in range(size, 4 + size, size)]


@pytest.mark.parametrize(
    ("window", "features", "windows"),
    [
        ((40, 56, 40), 32, 1),
        ((40, 56, 40), 16, 2),
        ((128, 128, 128), 32, 1),
        ((8, 8, 8), 8, 64),
        ((64, 64, 1), 32, 24),
        ((40, 56, 40), 0, 2),
    ],
)
def test_windows_go_together_as_long_as_their_first_stage_is_small(window: tuple[int, int, int], features: int, windows: int) -> None:
    assert windows_at_once(window, features) == windows
