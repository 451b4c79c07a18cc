"""Outputs become class indices: the likeliest class, or regions painted one over the other."""

import numpy as np
import torch

from segpipe.prepare.readout import CLASSES, Readout

NESTED = Readout((2, 1, 3))


def test_of_classes_the_likeliest_is_taken_and_of_equal_ones_the_lower() -> None:
    scores = torch.randn(5, 6, 7, 8, generator=torch.Generator().manual_seed(0)).round(decimals=0)
    assert np.array_equal(CLASSES.indices(scores).numpy(), scores.numpy().argmax(0))
    torch.testing.assert_close(CLASSES.probabilities(scores), scores.softmax(0))


def test_regions_are_painted_in_their_order_where_they_are_more_likely_than_not() -> None:
    scores = torch.tensor([[-1.0, 1.0, 1.0, 1.0, -1.0], [-1.0, -1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, 1.0, -1.0]])
    assert NESTED.indices(scores).tolist() == [0, 2, 1, 3, 1]
    torch.testing.assert_close(NESTED.probabilities(scores), scores.sigmoid())


def test_scores_of_probabilities_lead_back_to_them() -> None:
    logits = 3 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    for readout in (CLASSES, NESTED):
        scores = readout.scores(readout.probabilities(logits).clone())
        torch.testing.assert_close(readout.probabilities(scores), readout.probabilities(logits))
        assert torch.equal(readout.indices(scores), readout.indices(logits))
        sure = readout.scores(readout.probabilities(1e4 * torch.ones(3, 2)).clone())
        assert torch.isfinite(sure).all()
