"""Losses equal MONAI's and are finite where a class is missing."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch.nn import functional

from segpipe.errors import ConfigError
from segpipe.network.build import build_network
from segpipe.plan.plan import IGNORED, Label, NetworkPlan, Plan, Region
from segpipe.settings import TrainingSettings
from segpipe.training.loss import LOSSES, DiceCrossEntropy, RegionLoss, build_loss, class_weights, loss_of, supervised


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
    logits, label = (part[..., :4, :] for part in example())  # sizes that two divides
    loss = build_loss("dice_ce")
    coarse = logits[:, :, ::2, ::2, ::2]
    target = functional.interpolate(label[:, None].float(), size=coarse.shape[2:], mode="nearest-exact")[:, 0]
    expected = (loss(logits, label) + 0.5 * loss(coarse, target)) / 1.5
    steps = [[1, 1, 1], [2, 2, 2]]
    assert supervised(loss, [logits, coarse], label, steps).item() == pytest.approx(expected.item(), rel=1e-6)


def test_targets_of_coarse_heads_lie_under_their_voxels_also_where_a_step_does_not_divide_the_patch() -> None:
    # Logits that say of each coarse voxel what lies in its middle have no loss, whatever hangs over the end.
    label = torch.zeros((1, 30, 27, 8), dtype=torch.uint8)
    label[0, 9:29, 4:20, 2:7] = 1
    spec = NetworkPlan("unet", (2,) * 4, ((3,) * 3,) * 4, ((1,) * 3, *((2,) * 3,) * 3), deep_supervision=True)
    network = build_network(spec, 1, 2, 3)
    image = torch.zeros((1, 1, 30, 27, 8))
    shapes = [tuple(head.shape[2:]) for head in network.forward_all(image)]
    assert shapes == [(30, 27, 8), (15, 14, 4), (8, 7, 2)]
    heads = []
    for shape, step in zip(shapes, network.steps, strict=False):
        middles = [[min(k * s + s // 2, n - 1) for k in range(m)] for m, s, n in zip(shape, step, label.shape[1:], strict=True)]
        truth = torch.tensor([[[int(label[0, i, j, k]) for k in middles[2]] for j in middles[1]] for i in middles[0]])
        heads.append(20.0 * functional.one_hot(truth[None], 2).movedim(-1, 1).float())
    assert supervised(build_loss("dice_ce"), heads, label, network.steps).item() == pytest.approx(0.0, abs=1e-4)


def test_an_unknown_loss_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ConfigError, match="tversky"):
        build_loss("magic")


@pytest.mark.parametrize("name", list(LOSSES))
def test_voxels_that_nobody_has_judged_change_neither_the_loss_nor_its_gradient(name: str) -> None:
    logits, label = example()
    loss, steps = build_loss(name), [[1, 1, 1]]
    label[:, 3:] = IGNORED
    grown = logits.clone().requires_grad_(True)
    value = supervised(loss, [grown], label, steps, partly=True)
    value.backward()
    assert value.item() == pytest.approx(supervised(loss, [logits[:, :, :3]], label[:, :3], steps).item(), rel=1e-5)
    assert (grown.grad[:, :, 3:] == 0).all() and grown.grad[:, :, :3].abs().sum() > 0
    nothing = supervised(loss, [grown], torch.full_like(label, IGNORED), steps, partly=True)
    assert nothing.item() == 0.0 and nothing.requires_grad


def test_without_ignored_voxels_nothing_changes() -> None:
    logits, label = example()
    heads = [logits, logits[:, :, ::2, ::2, ::2]]
    steps = [[1, 1, 1], [2, 2, 2]]
    one, two = (supervised(build_loss("dice_ce"), heads, label, steps, partly) for partly in (False, True))
    assert one.item() == pytest.approx(two.item(), rel=1e-6)


def test_class_weights_are_those_of_torch_and_of_a_weighted_mean() -> None:
    logits, label = example()
    weights = [1.0, 0.5, 3.0]
    entropy = functional.cross_entropy(logits, label, torch.tensor(weights))
    terms = []
    for index in (1, 2):
        p, here = logits.softmax(1)[:, index], (label == index).float()
        terms.append(1 - (2 * (p * here).sum() + 1e-5) / (p.sum() + here.sum() + 1e-5))
    dice = (0.5 * terms[0] + 3.0 * terms[1]) / 3.5
    assert build_loss("dice_ce", weights)(logits, label).item() == pytest.approx((entropy + dice).item(), rel=1e-5)
    assert build_loss("dice", weights)(logits, label).item() == pytest.approx(dice.item(), rel=1e-5)
    assert build_loss("dice_ce", [1.0] * 3)(logits, label).item() == pytest.approx(build_loss("dice_ce")(logits, label).item(), rel=1e-6)
    assert build_loss("focal", weights)(logits, label).item() != pytest.approx(build_loss("focal")(logits, label).item(), rel=1e-3)
    with pytest.raises(ConfigError, match="tversky has none"):
        build_loss("tversky", weights)


def test_class_weights_are_named_by_label_or_value() -> None:
    labels = (Label(0, 0, "background"), Label(1, 4, "Organ"), Label(2, 9, "tumour"))
    assert class_weights({}, labels) == []
    assert class_weights({"tumour": 3.0, "4": 0.5}, labels) == [1.0, 0.5, 3.0]
    assert class_weights({"organ": 2.0, "background": 0.1}, labels) == [0.1, 2.0, 1.0]
    with pytest.raises(ConfigError, match=r"names 'liver', which is no label; known are background \(0\), Organ \(4\)"):
        class_weights({"liver": 2.0}, labels)
    with pytest.raises(ConfigError, match="0 for every label"):
        class_weights({"Organ": 0.0, "9": 0.0}, labels)


def test_the_loss_of_regions_equals_monai_on_masks_of_each() -> None:
    random = torch.Generator().manual_seed(0)
    logits, label = torch.randn(2, 3, 6, 5, 4, generator=random), torch.randint(0, 4, (2, 6, 5, 4), generator=random)
    regions = [(1, 2, 3), (1, 3), (3,)]
    masks = torch.stack([torch.isin(label, torch.tensor(members)) for members in regions], 1).float()
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, masks)
    entropy = functional.binary_cross_entropy_with_logits(logits, masks)
    assert RegionLoss(regions, 4, 1.0)(logits, label).item() == pytest.approx((dice + entropy).item(), rel=1e-5)
    assert RegionLoss(regions, 4, 0.0)(logits, label).item() == pytest.approx(dice.item(), rel=1e-5)
    single = [RegionLoss([members], 4, 1.0)(logits[:, [n]], label).item() for n, members in enumerate(regions)]
    weighted = RegionLoss(regions, 4, 1.0, [1.0, 0.0, 3.0])(logits, label).item()
    assert weighted == pytest.approx((single[0] + 3 * single[2]) / 4, rel=1e-5)
    ignored = label.clone()
    ignored[:, 3:] = IGNORED
    part = supervised(RegionLoss(regions, 4, 1.0), [logits], ignored, [[1, 1, 1]], partly=True)
    assert part.item() == pytest.approx(RegionLoss(regions, 4, 1.0)(logits[:, :, :3], label[:, :3]).item(), rel=1e-5)


def test_regions_and_classes_get_the_loss_that_fits_them(make_plan: Callable[[int], Plan]) -> None:
    plan = dataclasses.replace(make_plan(3), labels=(Label(0, 0, "background"), Label(1, 1, "a"), Label(2, 2, "b")))
    assert isinstance(loss_of(plan, TrainingSettings()), DiceCrossEntropy)
    regions = dataclasses.replace(plan, regions=(Region("both", (1, 2), 1), Region("inner", (2,), 2)))
    found = loss_of(regions, TrainingSettings(class_weights={"inner": 3.0}))
    assert isinstance(found, RegionLoss) and found.weights.tolist() == [1.0, 3.0]
    with pytest.raises(ConfigError, match=r"training\.loss is 'focal'; with dataset\.regions must be one of dice_ce, dice"):
        loss_of(regions, TrainingSettings(loss="focal"))
    with pytest.raises(ConfigError, match="names 'a', which is no label"):
        loss_of(regions, TrainingSettings(class_weights={"a": 3.0}))


def test_a_patch_that_holds_only_what_weighs_nothing_has_a_finite_loss() -> None:
    logits, label = example()
    logits.requires_grad_(True)
    loss = build_loss("dice_ce", [0.0, 1.0, 1.0])
    value = loss(logits, torch.zeros_like(label))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()
    expected = build_loss("dice", [0.0, 1.0, 1.0])(logits, torch.zeros_like(label))
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("weights", [(), (1.0, 2.0, 0.5)])
@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (3, 6, 5), (1, 40)])
def test_the_cross_entropy_of_a_gpu_is_that_of_a_processor(weights: tuple[float, ...], shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    loss = DiceCrossEntropy(weights=weights)
    logits = torch.randn((shape[0], 3, *shape[1:]), generator=generator).log_softmax(1)
    label = torch.randint(0, 3, shape, generator=generator)
    torch.testing.assert_close(loss._entropy_by_class(logits, label), loss._entropy(logits, label))
