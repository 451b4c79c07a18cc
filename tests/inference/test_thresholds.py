"""Offsets of a model file decide where outputs are taken, and nothing else."""

import dataclasses

import numpy as np
import pytest
import torch

from segpipe.errors import ModelError
from segpipe.inference.predictor import Predictor
from segpipe.inference.thresholds import KEY, offsets_of
from segpipe.plan.plan import Region

from .conftest import MakeModel, Thresholds, blocks_volume


@pytest.mark.parametrize("told", [[0.1], [0.1, "x", 0.0], 3, [float("nan")] * 3, {"organ": 0.3}])
def test_offsets_that_do_not_fit_are_refused(told: object) -> None:
    with pytest.raises(ModelError, match="its offsets cannot be understood"):
        offsets_of({KEY: told}, 3)
    assert offsets_of({}, 3) == ()


@pytest.mark.parametrize("spacing", [None, (1.3, 1.3, 1.3)])
def test_an_offset_moves_the_label_and_leaves_the_probabilities(make_model: MakeModel, spacing: tuple[float, float, float] | None) -> None:
    model = make_model(network=Thresholds(slope=1.0), spacing_mm=spacing)
    volume = blocks_volume()
    plain = Predictor([model]).predict(volume, probabilities=True)
    moved = dataclasses.replace(model, document=model.document | {KEY: [0.0, 0.0, 0.7]})
    for models in ([moved], [moved, moved]):
        found = Predictor(models).predict(volume, probabilities=True)
        assert plain.probabilities is not None and found.probabilities is not None
        assert np.allclose(plain.probabilities, found.probabilities, atol=2e-3)
        odds = np.log(found.probabilities) + np.array([0.0, 0.0, 0.7])[:, None, None, None]
        close = np.sort(odds, axis=0)
        clear = close[-1] - close[-2] > 1e-2
        assert np.array_equal(found.labels[clear], np.array([0, 10, 255])[odds.argmax(0)][clear])
        assert (found.labels == 255).sum() > (plain.labels == 255).sum()


class Regions(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x - 0.5, x - 1.5], 1)


def test_the_threshold_of_a_region_moves(make_model: MakeModel) -> None:
    model = make_model()
    plan = dataclasses.replace(model.plan, regions=(Region("whole", (1, 2), 1), Region("core", (2,), 2)))
    model = dataclasses.replace(model, plan=plan, network=Regions())
    plain, sooner = Predictor([model]).predict(blocks_volume()), Predictor([model], offsets=(0.0, 0.6)).predict(blocks_volume())
    assert (plain.labels == 255).sum() < (sooner.labels == 255).sum()
    assert ((plain.labels > 0) == (sooner.labels > 0)).all()


def test_models_with_different_offsets_are_read_at_even_odds(make_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model(network=Thresholds(slope=1.0))
    other = dataclasses.replace(model, document=model.document | {KEY: [0.0, 0.0, 0.7]})
    assert Predictor([model, other]).offsets == ()
    assert "the models have different thresholds: none are applied" in caplog.text
    assert Predictor([other]).offsets == (0.0, 0.0, 0.7)
