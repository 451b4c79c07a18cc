"""Losses equal MONAI's and are finite where a class is missing."""

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch.nn import functional

from segpipe.errors import ConfigError
from segpipe.training.loss import LOSSES, build_loss, supervised


def example() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 6, 5, 4, generator=random), torch.randint(0, 3, (2, 6, 5, 4), generator=random)


def test_dice_with_cross_entropy_equals_monai() -> None:
    logits, label = example()
    reference = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)
    assert build_loss("dice_ce")(logits, label).item() == pytest.approx(reference(logits, label[:, None]).item(), rel=1e-5)


def test_dice_alone_equals_monai() -> None:
    logits, label = example()
    reference = DiceLoss(to_onehot_y=True, softmax=True, include_background=False, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)
    assert build_loss("dice")(logits, label).item() == pytest.approx(reference(logits, label[:, None]).item(), rel=1e-5)


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_falls_towards_the_truth_and_has_a_gradient(name: str) -> None:
    logits, label = example()
    loss = build_loss(name)
    right = 20.0 * functional.one_hot(label, 3).movedim(-1, 1).float()
    logits.requires_grad_(True)
    value = loss(logits, label)
    value.backward()
    assert loss(right, label) < value
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_is_finite_without_any_foreground(name: str) -> None:
    logits, label = example()
    assert torch.isfinite(build_loss(name)(logits, torch.zeros_like(label)))


def test_deep_supervision_weighs_heads_by_halves() -> None:
    logits, label = example()
    loss = build_loss("dice_ce")
    coarse = logits[:, :, ::2, ::2, ::2]
    target = functional.interpolate(label[:, None].float(), size=coarse.shape[2:], mode="nearest-exact")[:, 0]
    expected = (loss(logits, label) + 0.5 * loss(coarse, target)) / 1.5
    assert supervised(loss, [logits, coarse], label).item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_unknown_loss_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ConfigError, match="tversky"):
        build_loss("magic")
