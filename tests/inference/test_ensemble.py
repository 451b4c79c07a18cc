"""An ensemble averages probabilities, and only of models that speak of the same thing."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from segpipe.errors import ModelError
from segpipe.inference.ensemble import check_agreement, mean_scores, prepared_alike
from segpipe.package.model_file import Model
from segpipe.plan.plan import Channel, Label
from segpipe.prepare.readout import CLASSES

MakeModel = Callable[..., Model]


def test_the_mean_is_that_of_the_softmaxes() -> None:
    logits = [3.0 * torch.randn(3, 4, 5, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    expected = torch.stack([each.softmax(0) for each in logits]).mean(0)
    found = mean_scores((each.clone() for each in logits), 3, CLASSES)
    assert torch.allclose(found.exp(), expected, atol=1e-6)
    assert torch.allclose(found.softmax(0), expected, atol=1e-6)


def test_a_class_that_no_model_believes_in_keeps_a_finite_logarithm() -> None:
    certain = torch.tensor([1000.0, -1000.0]).view(2, 1, 1, 1)
    assert torch.isfinite(mean_scores([certain.clone(), certain.clone()], 2, CLASSES)).all()


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


def test_models_that_see_the_same_volume_share_its_preparation(make_model: MakeModel) -> None:
    one, two = make_model("a.ts"), make_model("b.ts", patch_size=(4, 4, 4))  # the window does not matter
    coarse = make_model("c.ts", spacing_mm=(2.0, 2.0, 2.0))
    assert prepared_alike([one, coarse, two]) == [[one, two], [coarse]]
    other = dataclasses.replace(one.plan.channels[0], mean=5.0)
    assert len(prepared_alike([one, make_model("d.ts", channels=(other,))])) == 2
