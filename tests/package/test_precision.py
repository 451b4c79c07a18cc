"""Windows reach a network in its own dimensions, in the precision that was asked for."""

import pytest
import torch
from torch import nn

from segpipe.package.precision import Compute, fast_bf16, lay_out, on_windows


def test_a_two_dimensional_network_sees_pictures_and_answers_windows() -> None:
    seen: list[int] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.ndim)
        return x

    windows, compute = torch.zeros(2, 1, 4, 5, 1), Compute("cpu", False)
    assert on_windows(network, 2, compute)(windows).shape == windows.shape
    assert on_windows(nn.Identity(), 3, compute)(windows).shape == windows.shape
    assert seen == [4]


def test_convolutions_run_in_bf16_where_asked() -> None:
    kinds: list[torch.dtype] = []
    network = nn.Conv3d(1, 2, 1)
    network.register_forward_hook(lambda module, x, y: kinds.append(y.dtype))
    windows = torch.randn(1, 1, 4, 4, 4)
    with torch.inference_mode():
        half, single = (on_windows(network, 3, Compute("cpu", bf16))(windows) for bf16 in (True, False))
    assert kinds == [torch.bfloat16, torch.float32]
    assert (half.dtype, single.dtype) == (torch.bfloat16, torch.float32)
    assert torch.allclose(half.float(), single, atol=0.05)


def test_only_a_processor_that_multiplies_bf16_is_fast_at_it(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for amx, avx in ((True, False), (False, True), (False, False)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx, raising=False)
        assert fast_bf16("cpu") == (amx or avx)
    assert not fast_bf16("mps")


@pytest.mark.parametrize("dims", [2, 3])
def test_weights_are_laid_out_for_the_processor_and_stay_the_same_numbers(dims: int) -> None:
    kinds = {2: nn.Conv2d, 3: nn.Conv3d}
    network = torch.jit.script(nn.Sequential(kinds[dims](8, 16, 3), nn.PReLU(16)))
    image = torch.randn(1, 8, *[6] * dims, generator=torch.Generator().manual_seed(0))
    before, expected = network(image), [weight.clone() for weight in network.parameters()]
    lay_out(network, dims, "cpu")
    form = torch.channels_last_3d if dims == 3 else torch.channels_last
    assert next(iter(network.parameters())).is_contiguous(memory_format=form)
    assert all(torch.equal(weight, other) for weight, other in zip(network.parameters(), expected, strict=True))
    assert torch.allclose(network(image), before, atol=1e-6)
    lay_out(lambda x: x, dims, "cpu")  # what is no module of torch stays as it is
