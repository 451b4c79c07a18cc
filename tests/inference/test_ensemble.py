"""An ensemble averages probabilities, and only of models that speak of the same thing."""

import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch

from segpipe.errors import ModelError
from segpipe.inference.ensemble import check_agreement, seeing_alike, together, with_flips
from segpipe.package.model_file import Model
from segpipe.plan.plan import Channel, Label
from segpipe.prepare.readout import CLASSES, Readout

MakeModel = Callable[..., Model]


def windows_of(*sizes: int, seed: int = 0) -> torch.Tensor:
    return 3.0 * torch.randn(sizes, generator=torch.Generator().manual_seed(seed))


def test_the_mean_is_that_of_the_softmaxes() -> None:
    answers = [windows_of(2, 3, 4, 5, 2, seed=seed) for seed in range(3)]
    expected = torch.stack([each.softmax(1) for each in answers]).mean(0)
    kept = [each.clone() for each in answers]
    networks = [lambda windows, answer=answer: answer for answer in answers]
    found = together(networks, CLASSES)(torch.zeros(2, 1, 4, 5, 2))
    assert found.shape == expected.shape
    assert torch.allclose(found.exp(), expected, atol=1e-6)
    assert torch.allclose(found.softmax(1), expected, atol=1e-6)
    assert all(torch.equal(one, other) for one, other in zip(answers, kept, strict=True))  # what a network gave is not written into


def test_the_mean_of_regions_is_that_of_the_sigmoids() -> None:
    answers = [windows_of(2, 2, 4, 5, 2, seed=seed) for seed in range(3)]
    networks = [lambda windows, answer=answer: answer for answer in answers]
    found = together(networks, Readout(paint=(1, 2)))(torch.zeros(2, 1, 4, 5, 2))
    assert torch.allclose(found.sigmoid(), torch.stack([each.sigmoid() for each in answers]).mean(0), atol=1e-5)


def test_a_class_that_no_model_believes_in_keeps_a_finite_logarithm() -> None:
    certain = torch.tensor([1000.0, -1000.0]).view(1, 2, 1, 1, 1)
    assert torch.isfinite(together([lambda windows: certain] * 2, CLASSES)(torch.zeros(1, 1, 1, 1, 1))).all()


def test_a_single_network_stays_as_it_is() -> None:
    def network(windows: torch.Tensor) -> torch.Tensor:
        return windows

    assert together([network], CLASSES) is network
    assert with_flips(network, []) is network


@pytest.mark.parametrize(("axes", "passes"), [([0], 2), ([1, 2], 4), ([0, 1, 2], 8)])
def test_flips_average_what_the_network_says_of_each_mirroring(axes: list[int], passes: int) -> None:
    slope = torch.arange(24.0).view(1, 1, 4, 3, 2)  # a network that does not treat all places alike
    seen: list[torch.Tensor] = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        seen.append(windows.clone())
        return windows * slope

    windows = windows_of(2, 1, 4, 3, 2)
    expected = torch.zeros_like(windows)
    for along in itertools.product(*([[], [2 + axis]] for axis in axes)):
        chosen = [axis for one in along for axis in one]
        expected += (windows.flip(chosen) * slope).flip(chosen) / passes
    torch.testing.assert_close(with_flips(network, axes)(windows), expected)
    assert len(seen) == passes
    assert len({each.numpy().tobytes() for each in seen}) == passes


def test_models_with_other_labels_or_channels_are_refused_with_both_named(make_model: MakeModel) -> None:
    first = make_model("a.ts")
    check_agreement([first, make_model("b.ts", spacing_mm=(2.0, 2.0, 2.0))])
    labels = (Label(0, 0, "background"), Label(1, 10, "other"), Label(2, 255, "tumour"))
    for change, words in (({"labels": labels}, "same labels"), ({"channels": (Channel("CT", "none"),)}, "same channels")):
        with pytest.raises(ModelError, match=words) as caught:
            check_agreement([first, make_model("c.ts", **change)])
        assert "a.ts" in str(caught.value)
        assert "c.ts" in str(caught.value)
    with pytest.raises(ModelError, match="no model"):
        check_agreement([])


def test_models_that_see_the_same_windows_share_them(make_model: MakeModel) -> None:
    one, two = make_model("a.ts"), make_model("b.ts")
    coarse, small = make_model("c.ts", spacing_mm=(2.0, 2.0, 2.0)), make_model("d.ts", patch_size=(4, 4, 4))
    assert seeing_alike([one, coarse, two, small]) == [[one, two], [coarse], [small]]
    other = dataclasses.replace(one.plan.channels[0], mean=5.0)
    assert len(seeing_alike([one, make_model("e.ts", channels=(other,))])) == 2
