"""The planner decides by its rules and gives its reasons."""

import dataclasses

import pytest

from segpipe.dataset.fingerprint import ChannelStats, Fingerprint
from segpipe.errors import ConfigError, DataError
from segpipe.plan.planner import has_side, make_plan
from segpipe.settings import NetworkSettings, PlanSettings, Settings


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
    wanted = ("dims", "axes", "spacing_mm", "patch_size", "batch_size", "normalisation", "nonzero", "flips", "features")
    assert all(reasons[key] for key in wanted)


def test_an_anisotropic_axis_takes_its_tenth_percentile() -> None:
    spacings = tuple((0.6, 0.6, z) for z in (3.0, 3.6, 4.0))
    plan = make_plan("p", data(spacings_mm=spacings, shapes=((320, 320, 20),) * 3), settings())
    assert plan.spacing_mm is not None
    assert plan.spacing_mm[2] == pytest.approx(3.12)


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


def test_the_v_net_gets_wide_kernels_and_narrow_stages() -> None:
    network = make_plan("h", data(), settings(network={"name": "vnet"})).network
    assert network.kernels[0] == (5, 5, 5)
    assert network.features == (8, 16, 32, 64)


def test_settings_by_hand_win() -> None:
    plan = make_plan(
        "h",
        data(),
        settings({"patch_size": [32, 32, 16], "batch_size": 3, "spacing_mm": [2.0, 2.0, 4.0]}, {"features": [8, 12], "stages": 2}),
    )
    assert (plan.patch_size, plan.batch_size, plan.spacing_mm, plan.network.features) == ((32, 32, 16), 3, (2.0, 2.0, 4.0), (8, 12))


@pytest.mark.parametrize(
    ("plan", "network", "words"),
    [
        ({"dims": 1}, {}, r"plan\.dims"),
        ({"spacing_mm": [1.0, 1.0]}, {}, r"plan\.spacing_mm"),
        ({"patch_size": [8]}, {}, r"plan\.patch_size"),
        ({"normalisation": ["zscore", "ct"]}, {}, r"plan\.normalisation"),
        ({"normalisation": ["magic"]}, {}, "magic"),
        ({"flips": [True]}, {}, r"plan\.flips"),
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


@pytest.mark.parametrize(
    "name",
    [
        "kidney_left",
        "LeftKidney",
        "kidneyRight",
        "KidneyL",
        "leftkidney",
        "Lt_parotid",
        "parotid-rt",
        "hippocampus sin",
        "links",
        "sinistra",
        "Right",
        "LH",
    ],
)
def test_a_side_is_found_however_it_is_spelt(name: str) -> None:
    assert has_side(name)


@pytest.mark.parametrize("name", ["bright", "cleft palate", "liver", "tumour", "label 1", "PZ", "upright", "Anterior", "lesion"])
def test_a_name_without_a_side_has_none(name: str) -> None:
    assert not has_side(name)
