"""The planner decides by its rules and gives its reasons."""

import dataclasses

import pytest
import torch

from segpipe.dataset.fingerprint import ChannelStats, Fingerprint
from segpipe.errors import ConfigError, DataError
from segpipe.network.build import build_network
from segpipe.plan.planner import make_plan
from segpipe.settings import DatasetSettings, NetworkSettings, PlanSettings, Settings


def data(**change: object) -> Fingerprint:
    channel = ChannelStats(name="MRI", minimum=0.0, maximum=900.0, mean=300.0, std=80.0, p005=10.0, p50=290.0, p995=700.0)
    base = Fingerprint(
        cases=3,
        picture=False,
        spacings_mm=((1.0, 1.0, 1.0),) * 3,
        shapes=((36, 50, 35),) * 3,
        channels=(channel,),
        label_values=(0, 1, 2),
        label_voxels={0: 1000, 1: 50, 2: 60},
        label_cases={0: 3, 1: 3, 2: 3},
        label_names={1: "Anterior", 2: "Posterior"},
        nonzero_share=1.0,
    )
    return dataclasses.replace(base, **change)


def settings(plan: dict[str, object] | None = None, network: dict[str, object] | None = None) -> Settings:
    return Settings(plan=PlanSettings(**(plan or {})), network=NetworkSettings(**(network or {})))


def test_the_hippocampus_gets_the_published_patch() -> None:
    plan = make_plan("h", data(), settings())
    assert plan.patch_size == (40, 56, 40)
    assert plan.spacing_mm == (1.0, 1.0, 1.0)
    assert plan.batch_size == 4
    assert plan.network.features == (16, 32, 64, 128)
    assert plan.flips == (True, True, True)
    assert [label.name for label in plan.labels] == ["background", "Anterior", "Posterior"]


def test_every_decision_has_a_reason() -> None:
    reasons = make_plan("h", data(), settings()).reasons
    wanted = (
        "dims",
        "axes",
        "spacing_mm",
        "patch_size",
        "batch_size",
        "normalisation",
        "nonzero",
        "flips",
        "features",
        "kernels",
        "strides",
    )
    assert all(reasons[key] for key in wanted)


def test_an_anisotropic_axis_takes_its_tenth_percentile() -> None:
    spacings = tuple((0.6, 0.6, z) for z in (3.0, 3.6, 4.0))
    plan = make_plan("p", data(spacings_mm=spacings, shapes=((320, 320, 20),) * 3), settings())
    assert plan.spacing_mm is not None
    assert plan.spacing_mm[2] == pytest.approx(3.12)


@pytest.mark.parametrize(
    ("spacing", "dims", "nearest"),
    [((0.6, 0.6, 3.6), 3, (False, False, True)), ((1.0, 1.0, 3.0), 3, (False, False, False)), ((0.6, 0.6, 3.6), 2, (False, False, False))],
)
def test_thick_slices_are_not_blended(spacing: tuple[float, ...], dims: int, nearest: tuple[bool, ...]) -> None:
    plan = make_plan("p", data(spacings_mm=(spacing,) * 3, shapes=((320, 320, 20),) * 3), settings({"dims": dims}))
    assert plan.nearest == nearest
    assert plan.reasons["resampling"]


def test_slices_of_a_two_dimensional_network_lie_across_the_coarsest_axis() -> None:
    plan = make_plan("p", data(spacings_mm=((3.0, 0.6, 0.6),) * 3, shapes=((20, 320, 300),) * 3), settings({"dims": 2}))
    assert plan.axes == (1, 2, 0)
    assert plan.spacing_mm == (0.6, 0.6, 0.0)
    assert plan.patch_size[2] == 1
    assert plan.flips == (True, True, False)


def test_pictures_keep_their_pixels() -> None:
    plan = make_plan("m", data(picture=True, shapes=((512, 512, 1),) * 3), settings())
    assert (plan.dims, plan.orient, plan.spacing_mm) == (2, False, None)


def test_ct_is_clipped_by_the_data_set() -> None:
    channel = dataclasses.replace(data().channels[0], name="CT")
    made = make_plan("c", data(channels=(channel,)), settings()).channels[0]
    assert (made.normalisation, made.lower, made.upper, made.mean, made.std) == ("ct", 10.0, 700.0, 300.0, 80.0)


@pytest.mark.parametrize(
    ("names", "allowed"), [({1: "kidney_left", 2: "kidney_right"}, False), ({1: "L ventricle"}, False), ({1: "bright"}, True)]
)
def test_labels_with_a_side_lose_the_flip_that_would_exchange_them(names: dict[int, str], allowed: bool) -> None:
    plan = make_plan("k", data(label_names=names), settings({"flips": [True, True, True]}))
    assert plan.flips == (allowed, True, True)


def test_labels_are_ordered_and_the_background_is_zero_or_the_lowest() -> None:
    values = make_plan("m", data(label_values=(0, 255), label_names={255: "cell"}), settings()).labels
    assert [(label.index, label.value, label.name) for label in values] == [(0, 0, "background"), (1, 255, "cell")]
    lowest = make_plan("m", data(label_values=(3, 7), label_names={}), settings()).labels
    assert [(label.value, label.name) for label in lowest] == [(3, "background"), (7, "label 7")]


def test_scans_with_large_margins_are_cropped() -> None:
    assert make_plan("b", data(nonzero_share=0.3), settings()).nonzero


def test_the_v_net_gets_narrow_stages() -> None:
    network = make_plan("h", data(), settings(network={"name": "vnet"})).network
    assert network.kernels[0] == (3, 3, 3)
    assert network.features == (8, 16, 32, 64)


def test_settings_by_hand_win() -> None:
    plan = make_plan(
        "h",
        data(),
        settings({"patch_size": [32, 32, 16], "batch_size": 3, "spacing_mm": [2.0, 2.0, 4.0]}, {"features": [8, 12], "stages": 2}),
    )
    assert (plan.patch_size, plan.batch_size, plan.spacing_mm, plan.network.features) == ((32, 32, 16), 3, (2.0, 2.0, 4.0), (8, 12))


def test_strides_by_hand_make_the_stages_and_the_kernels_follow_the_spacing() -> None:
    spacing = {"spacing_mm": [1.0, 1.0, 4.0], "patch_size": [36, 36, 10]}
    plan = make_plan("h", data(), settings(spacing, {"strides": [[1, 1, 1], [3, 3, 1], [2, 2, 2]]}))
    assert plan.network.strides == ((1, 1, 1), (3, 3, 1), (2, 2, 2))
    assert plan.network.kernels == ((3, 3, 1), (3, 3, 3), (3, 3, 3))
    assert len(plan.network.features) == 3
    assert plan.reasons["strides"] == "set by hand"
    free = make_plan("h", data(), settings(None, {"strides": [[1, 1, 1], [4, 4, 4]]})).patch_size
    assert all(size % 4 == 0 for size in free)


def test_a_network_by_strides_set_by_hand_steps_as_they_say() -> None:
    plan = make_plan("h", data(), settings(None, {"strides": [[1, 1, 1], [3, 1, 2]], "features": [4, 4]}))
    maps = build_network(plan.network, 1, plan.classes, 3).backbone(torch.zeros(1, 1, 6, 5, 4))
    assert [tuple(each.shape[2:]) for each in maps] == [(6, 5, 4), (2, 5, 2)]


EFFECTS: list[tuple[str, object, str]] = [
    ("features", [5, 7, 9, 11], "(5, 7, "),
    ("strides", [[1, 1, 1], [3, 1, 2]], "stride=(3, 1, 2)"),
    ("stages", 2, ""),
    ("kernel_size", 7, "kernel_size=(7, 7, 7)"),
    ("kernels", [[3, 1, 5]] * 4, "kernel_size=(3, 1, 5)"),
    ("padding", "reflect", "BorderPad"),
    ("padding", "replicate", "BorderPad"),
    ("norm", "batch", "BatchNorm"),
    ("norm", "group", "GroupNorm"),
    ("norm", "none", ""),
    ("dropout", 0.3, "Dropout3d(p=0.3"),
    ("deep_supervision", False, ""),
]
EFFECTS_UNET: list[tuple[str, object, str]] = [
    ("pooling", "max", "MaxPool3d(kernel_size=(2, 2, 2)"),
    ("pooling", "average", "AvgPool3d(kernel_size=(2, 2, 2)"),
    ("convolutions", 3, ""),
    ("block", "residual", "ResidualBlock"),
    ("activation", "elu", "ELU(alpha"),
]


@pytest.mark.parametrize(
    ("name", "key", "value", "part"),
    [("unet", *effect) for effect in EFFECTS + EFFECTS_UNET] + [("vnet", *effect) for effect in EFFECTS],
)
def test_every_setting_of_the_network_changes_the_network_that_is_trained(name: str, key: str, value: object, part: str) -> None:
    built = []
    for wanted in ({"name": name}, {"name": name, key: value}):
        plan = make_plan("h", data(), settings(None, wanted))
        built.append(build_network(plan.network, 1, plan.classes, 3))
    usual, changed = map(str, built)
    assert changed != usual
    assert part == "" or (part in changed and part not in usual)
    assert built[1](torch.randn(1, 1, 8, 6, 4)).shape == (1, 3, 8, 6, 4)


def test_kernels_by_hand_are_kept_in_two_dimensions_too() -> None:
    wanted = {"kernels": [[5, 3], [3, 3]], "strides": [[1, 1], [2, 4]]}
    network = make_plan("h", data(), settings({"dims": 2}, wanted)).network
    assert (network.kernels, network.strides) == (((5, 3), (3, 3)), ((1, 1), (2, 4)))


def test_settings_of_the_u_net_that_the_v_net_does_not_have_are_said(caplog: pytest.LogCaptureFixture) -> None:
    make_plan("h", data(), settings(None, {"pooling": "max"}))
    make_plan("h", data(), settings(None, {"name": "vnet", "dropout": 0.2}))
    assert caplog.messages == []
    make_plan("h", data(), settings(None, {"name": "vnet", "pooling": "max", "convolutions": 3}))
    assert caplog.messages == ["network.convolutions, network.pooling: without effect, a setting of the U-Net only (network=unet)"]


@pytest.mark.parametrize(
    ("spacing", "flips", "dropped"), [((1.0, 1.0, 4.0), (False, True, False), True), ((4.0, 1.0, 1.0), (True,) * 2, False)]
)
def test_of_two_flips_the_one_that_exchanges_sides_is_dropped(
    spacing: tuple[float, float, float], flips: tuple[bool, ...], dropped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    sided = data(spacings_mm=(spacing,) * 3, label_names={1: "left", 2: "right"})
    plan = make_plan("k", sided, settings({"dims": 2, "flips": [True, True]}))
    assert plan.flips[:2] == flips[:2]  # across slices that lie along x both in-plane axes may be mirrored
    assert bool(caplog.messages) == dropped


def test_two_values_of_a_two_dimensional_network_lie_along_its_slices() -> None:
    sagittal = data(spacings_mm=((3.0, 0.6, 0.5),) * 3, shapes=((20, 320, 300),) * 3)
    two = make_plan("p", sagittal, settings({"dims": 2, "patch_size": [64, 32], "spacing_mm": [0.8, 0.7], "flips": [False, True]}))
    three = {"dims": 2, "patch_size": [1, 64, 32], "spacing_mm": [3.0, 0.8, 0.7], "flips": [True, False, True]}
    assert two == make_plan("p", sagittal, settings(three))
    assert (two.patch_size, two.spacing_mm, two.flips) == ((64, 32, 1), (0.8, 0.7, 0.0), (False, True, False))


@pytest.mark.parametrize(
    ("plan", "network", "words"),
    [
        ({"dims": 1}, {}, r"plan\.dims"),
        ({"spacing_mm": [1.0, 1.0]}, {}, r"plan\.spacing_mm"),
        ({"patch_size": [8]}, {}, r"plan\.patch_size"),
        ({"normalisation": ["zscore", "ct"]}, {}, r"plan\.normalisation"),
        ({"normalisation": ["magic"]}, {}, "magic"),
        ({"flips": [True]}, {}, r"plan\.flips"),
        ({"flips": [True, True]}, {}, r"plan\.flips"),
        ({"patch_size": [32, 32]}, {}, r"plan\.patch_size"),
        ({"patch_size": [16, 16, 16]}, {"stages": 4}, r"patch of 16x16x16 allows 3 at most: set network\.stages=3"),
        ({}, {"strides": [[1, 1], [2, 2]]}, r"network\.strides .* 3 numbers"),
        ({}, {"strides": [[2, 2, 2], [2, 2, 2]]}, r"network\.strides begins with"),
        ({}, {"strides": [[1, 1, 1], [2, 2, 2]], "stages": 3}, r"network\.strides has 2 stages"),
        ({"patch_size": [8, 8, 4]}, {"strides": [[1, 1, 1], [8, 8, 8]]}, r"by 8x8x8 in all, and the patch is 8x8x4: .* such as 8x8x8$"),
        ({"patch_size": [16, 30, 16]}, {"strides": [[1, 1, 1], [4, 4, 4]]}, r"such as 16x28x16 or 16x32x16$"),
        ({}, {"kernels": [[3, 3, 3]]}, r"network\.kernels .* 3 numbers for each of the plan's 4 stages"),
        ({}, {"kernels": [[3, 3]] * 4}, r"network\.kernels .* 3 numbers"),
        ({}, {"kernels": [[3, 3, 4]] * 4}, r"network\.kernels is .*; must be odd"),
        ({}, {"kernels": [[3, 3, 3]] * 4, "kernel_size": 3}, r"network\.kernels and network\.kernel_size"),
        ({}, {"features": [8]}, r"network\.features"),
        ({}, {"kernel_size": 4}, r"network\.kernel_size"),
    ],
)
def test_settings_that_contradict_the_data_are_refused(plan: dict[str, object], network: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_plan("h", data(), settings(plan, network))


def test_data_without_any_structure_are_refused() -> None:
    with pytest.raises(DataError, match="background"):
        make_plan("h", data(label_values=(0,)), settings())


def test_the_planner_takes_nnunets_rules_when_asked() -> None:
    plan = make_plan("h", data(cases=208), settings({"rules": "nnunet"}))
    assert (plan.patch_size, plan.batch_size, plan.network.features) == ((40, 56, 40), 7, (32, 64, 128, 256))
    assert plan.network.deep_supervision
    assert "nnU-Net" in plan.reasons["patch_size"]
    assert make_plan("h", data(cases=208), settings({"rules": "nnunet", "batch_size": 3})).batch_size == 3
    flat = make_plan("h", data(cases=260), settings({"rules": "nnunet", "dims": 2}))
    assert (flat.patch_size[2], flat.dims) == (1, 2)


@pytest.mark.parametrize(
    ("plan", "network", "words"),
    [
        ({"patch_size": [32, 32, 32]}, {}, "plan.patch_size"),
        ({}, {"stages": 3}, "network.stages"),
        ({}, {"strides": [[1, 1, 1], [2, 2, 2]]}, "network.strides"),
        ({}, {"name": "vnet"}, "network.name is vnet"),
    ],
)
def test_what_nnunets_rules_decide_cannot_be_set_by_hand_too(plan: dict[str, object], network: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_plan("h", data(), settings({"rules": "nnunet", **plan}, network))


def test_an_axis_of_many_slices_keeps_its_median_spacing() -> None:
    spacings = tuple((0.5, 0.5, z) for z in (2.0, 3.0, 4.0))
    few = make_plan("p", data(spacings_mm=spacings, shapes=((300, 300, 20),) * 3), settings())
    many = make_plan("p", data(spacings_mm=spacings, shapes=((300, 300, 200),) * 3), settings())
    assert few.spacing_mm is not None
    assert many.spacing_mm is not None
    assert few.spacing_mm[2] == pytest.approx(2.2)
    assert many.spacing_mm[2] == pytest.approx(3.0)


def test_what_is_not_judged_stands_in_the_plan_with_its_reason() -> None:
    plan = make_plan("h", data(ignore=(9,)), dataclasses.replace(settings(), dataset=DatasetSettings(sparse="y")))
    assert (plan.ignore, plan.sparse, plan.partly_judged) == ((9,), "y", True)
    assert plan.reasons["ignore"] == "neither trained on nor validated: the label value(s) 9 and slices across y without any label"
    assert not make_plan("h", data(), settings()).partly_judged
    with pytest.raises(ConfigError, match=r"dataset\.sparse is z, but pictures have no slices"):
        make_plan("h", data(picture=True), dataclasses.replace(settings(), dataset=DatasetSettings(sparse="z")))


def test_a_grid_that_no_machine_holds_is_refused_when_planning() -> None:
    with pytest.raises(ConfigError, match=r"median scan would have 3600x5000x3500 voxels .*set a coarser plan\.spacing_mm$"):
        make_plan("h", data(), settings({"spacing_mm": [0.01, 0.01, 0.01]}))
    with pytest.raises(ConfigError, match="or correct the spacings in the headers"):
        make_plan("h", data(shapes=((3600, 5000, 3500),) * 3), settings())


def test_sides_in_the_names_of_regions_lose_the_flip_too() -> None:
    wanted = Settings(dataset=DatasetSettings(regions={"kidney_left": [1], "kidney_right": [2]}))
    assert make_plan("k", data(), wanted).flips == (False, True, True)
