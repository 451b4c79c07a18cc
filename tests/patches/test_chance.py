"""How often and how strongly effects happen."""

from __future__ import annotations

import pytest
import torch

from segpipe.patches.chance import happens, strength, strengths
from segpipe.settings import Effect


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.2, 150, 250), (1.0, 1000, 1000)])
def test_an_effect_happens_with_its_probability(probability: float, low: int, high: int) -> None:
    generator = torch.Generator().manual_seed(0)
    count = sum(happens(Effect(probability), generator) for _ in range(1000))
    assert low <= count <= high


def test_strengths_fill_their_range_evenly() -> None:
    drawn = torch.tensor(strengths(Effect(1.0, -2.0, 6.0), 4000, torch.Generator().manual_seed(0)))
    assert drawn.min() >= -2
    assert drawn.max() <= 6
    counts = torch.histc(drawn, bins=8, min=-2, max=6)
    assert counts.min() > 400
    assert counts.max() < 600


def test_a_range_of_one_value_gives_that_value() -> None:
    assert strength(Effect(1.0, 0.7, 0.7), torch.Generator().manual_seed(0)) == pytest.approx(0.7)
