"""One volume in, its label map out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segpipe.errors import ConfigError, DataError, ModelError
from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.memory import memory_guard
from segpipe.inference.postprocess import KEY
from segpipe.inference.predictor import Predictor
from segpipe.package.export import export_parts
from segpipe.package.model_file import load_models
from segpipe.plan.plan import Channel, Label, Region
from segpipe.prepare.prepare import prepare
from segpipe.prepare.restore import restore_probabilities

from .conftest import MakeModel, Thresholds, blocks_volume, expected_labels


@pytest.mark.parametrize("shape", [(13, 11, 9), (5, 20, 6), (30, 3, 8)])
@pytest.mark.parametrize("dims", [2, 3])
def test_labels_lie_on_the_scans_own_grid_in_the_users_values(make_model: MakeModel, shape: tuple[int, int, int], dims: int) -> None:
    volume = blocks_volume(shape)
    prediction = Predictor([make_model(dims=dims, axes=(1, 2, 0))]).predict(volume)
    assert np.array_equal(prediction.labels, expected_labels(volume.array))
    assert prediction.labels.dtype == np.uint8
    assert prediction.probabilities is None
    assert set(prediction.seconds) == {"prepare", "network", "restore"}


def test_a_picture_is_segmented_by_a_2d_model(make_model: MakeModel) -> None:
    array = blocks_volume((20, 17, 1)).array
    model = make_model(dims=2, orient=False)
    assert np.array_equal(Predictor([model]).predict(Volume(array, Grid((20, 17, 1), np.eye(4)))).labels, expected_labels(array))


def test_the_voxels_of_each_label_are_counted(make_model: MakeModel) -> None:
    volume = blocks_volume()
    prediction = Predictor([make_model()]).predict(volume)
    assert prediction.voxels == {"organ": (prediction.labels == 10).sum(), "tumour": (prediction.labels == 255).sum()}


def test_the_window_its_overlap_and_the_batch_do_not_change_a_network_that_looks_at_single_voxels(make_model: MakeModel) -> None:
    volume = blocks_volume()
    model = make_model()
    for overlap, batch in ((0.0, 1), (0.5, 2), (0.75, 7)):
        assert np.array_equal(Predictor([model], overlap=overlap, batch=batch).predict(volume).labels, expected_labels(volume.array))


def test_probabilities_are_on_the_scans_grid_and_their_largest_is_the_label(make_model: MakeModel) -> None:
    volume = blocks_volume()
    prediction = Predictor([make_model(spacing_mm=(1.3, 1.3, 1.3))]).predict(volume, probabilities=True)
    assert prediction.probabilities is not None
    assert prediction.probabilities.shape == (3, *volume.grid.shape)
    assert prediction.probabilities.dtype == np.float32
    assert np.allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(np.array([0, 10, 255])[prediction.probabilities.argmax(axis=0)], prediction.labels)


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_bf16_computes_the_network_only(make_model: MakeModel, precision: str) -> None:
    volume = blocks_volume()
    prediction = Predictor([make_model()], precision=precision).predict(volume, probabilities=True)  # type: ignore[arg-type]
    assert np.array_equal(prediction.labels, expected_labels(volume.array))
    assert prediction.probabilities is not None
    assert prediction.probabilities.dtype == np.float32


def test_an_ensemble_of_one_model_twice_is_that_model(make_model: MakeModel) -> None:
    volume = blocks_volume()
    model = make_model(spacing_mm=(1.3, 1.3, 1.3))
    one = Predictor([model]).predict(volume, probabilities=True)
    two = Predictor([model, model]).predict(volume, probabilities=True)
    assert np.array_equal(one.labels, two.labels)
    assert one.probabilities is not None
    assert two.probabilities is not None
    assert np.allclose(one.probabilities, two.probabilities, atol=2e-3)  # interpolated logits against log-probabilities


def biased(model: MakeModel, name: str, bias: tuple[float, float, float], **changes: object) -> object:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor(bias)[:, None, None, None])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x[:, :1]).expand(-1, 3, -1, -1, -1) + self.bias

    return model(name, Constant(), **changes)


@pytest.mark.parametrize("spacing", [None, (1.4, 1.1, 2.0)])
def test_an_ensemble_averages_probabilities_whether_its_models_prepare_alike_or_not(
    make_model: MakeModel, spacing: tuple[float, float, float] | None
) -> None:
    biases = [(0.0, 3.0, 0.0), (1.0, 0.0, 2.0), (0.0, 0.0, 1.5)]
    models = [biased(make_model, f"{n}.ts", bias, spacing_mm=spacing if n == 2 else None) for n, bias in enumerate(biases)]
    prediction = Predictor(models).predict(blocks_volume(), probabilities=True)  # type: ignore[arg-type]
    expected = torch.tensor(biases).softmax(dim=1).mean(dim=0).numpy()
    assert prediction.probabilities is not None
    assert np.allclose(prediction.probabilities, expected[:, None, None, None], atol=1e-5)
    assert (prediction.labels == [0, 10, 255][int(expected.argmax())]).all()


def test_a_2d_and_a_3d_model_work_together(make_model: MakeModel) -> None:
    volume = blocks_volume()
    models = [make_model("flat.ts", dims=2, axes=(2, 0, 1)), make_model("solid.ts", spacing_mm=(1.0, 1.5, 3.0), nonzero=True)]
    assert np.array_equal(Predictor(models).predict(volume).labels, expected_labels(volume.array))


def test_one_file_of_several_plans_predicts_as_its_models_together(make_model: MakeModel, tmp_path: Path) -> None:
    volume = blocks_volume()
    changes = ({"dims": 2, "axes": (2, 0, 1)}, {"spacing_mm": (1.3, 1.5, 3.0), "nonzero": True})
    single = [make_model(f"{number}.ts", **change) for number, change in enumerate(changes)]
    networks = [Thresholds(flat=True), Thresholds()]
    export_parts(list(zip(networks, [model.plan for model in single], strict=True)), {}, tmp_path / "both.ts")
    both = Predictor(load_models(tmp_path / "both.ts"))
    one, two = Predictor(single).predict(volume, probabilities=True), both.predict(volume, probabilities=True)
    assert np.array_equal(one.labels, two.labels)
    assert one.probabilities is not None and two.probabilities is not None
    assert np.allclose(one.probabilities, two.probabilities, atol=1e-6)
    assert len(both.sha256) == 64  # one file


def test_models_that_disagree_are_refused_by_name(make_model: MakeModel, plan: object) -> None:
    first = make_model("first.ts")
    labels = (Label(0, 0, "background"), Label(1, 10, "liver"), Label(2, 255, "tumour"))
    with pytest.raises(
        ModelError, match=r"other.ts has the labels .*'10 liver'.*first.ts .*'10 organ'.*: an ensemble needs the same labels"
    ):
        Predictor([first, make_model("other.ts", labels=labels)])
    with pytest.raises(ModelError, match=r"other.ts has the channels \['CT'\]"):
        Predictor([first, make_model("other.ts", channels=(Channel("CT", "none"),))])
    with pytest.raises(ModelError, match="no model"):
        Predictor([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overlap": 1.0}, "overlap is 1.0"),
        ({"overlap": -0.1}, "overlap"),
        ({"batch": -1}, "batch is -1"),
        ({"precision": "fp8"}, "precision"),
    ],
)
def test_arguments_out_of_range_are_refused(make_model: MakeModel, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Predictor([make_model()], **arguments)  # type: ignore[arg-type]


def test_a_network_that_gives_nan_is_an_error_not_a_label_map(make_model: MakeModel) -> None:
    network = Thresholds()
    model = make_model(network=network)
    broken = dataclasses.replace(model, network=lambda x: model.network(x) * float("nan"))
    with pytest.raises(ModelError, match="gives NaN or infinity"):
        Predictor([broken]).predict(blocks_volume())


@pytest.mark.parametrize(
    ("error", "batch", "device", "cure"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), 4, "cuda", "lower --batch from 4 to 2"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), 1, "cuda", "use --device cpu"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
            2,
            "cpu",
            "lower --batch from 2 to 1",
        ),
        (MemoryError(), 1, "cpu", "leave out --probabilities"),
    ],
)
def test_out_of_memory_names_the_option_to_lower(
    error: Exception, batch: int, device: str, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.raises(DataError, match=cure), memory_guard("network", torch.device(device), batch):
        raise error


def test_other_errors_pass_the_memory_guard_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_guard("network", torch.device("cpu"), 1):
        raise RuntimeError("shapes differ")


def test_rules_of_a_model_are_applied_and_those_of_different_models_are_not(
    make_model: MakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    model, volume = make_model(), blocks_volume()
    plain = Predictor([model]).predict(volume)
    document = dict(model.document) | {KEY: [{"label": 2, "keep_largest": False, "minimum_ml": 1e6}]}
    ruled = dataclasses.replace(model, document=document)
    found = Predictor([ruled]).predict(volume)
    assert (plain.labels == 255).any() and not (found.labels == 255).any()
    assert np.array_equal(found.labels == 10, plain.labels == 10)
    assert found.voxels == {"organ": plain.voxels["organ"], "tumour": 0}
    assert np.array_equal(Predictor([ruled, ruled]).predict(volume).labels, found.labels)
    assert not caplog.text
    assert np.array_equal(Predictor([ruled, model]).predict(volume).labels, plain.labels)
    assert "different rules of post-processing" in caplog.text
    with pytest.raises(ModelError, match=r"model\.ts: its postprocessing cannot be understood"):
        Predictor([dataclasses.replace(model, document=dict(model.document) | {KEY: [1]})])


class Nested(nn.Module):
    """The organ with the tumour in it above 0.5, the tumour above 1.5: overlapping regions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x - 0.5, x - 1.5], 1) * 50


def test_regions_are_painted_on_the_scans_grid_and_have_probabilities_of_their_own(make_model: MakeModel) -> None:
    volume, regions = blocks_volume(), (Region("both", (1, 2), 1), Region("tumour", (2,), 2))
    one, two = (make_model(name, Nested(), regions=regions) for name in ("one.ts", "two.ts"))
    other = make_model("other.ts", Nested(), regions=regions, nonzero=True)  # prepared differently: they meet on the scan's grid
    for models in ([one], [one, two], [one, other]):
        prediction = Predictor(models).predict(volume, probabilities=True)
        assert np.array_equal(prediction.labels, expected_labels(volume.array)), len(models)
        assert prediction.voxels == {"organ": (prediction.labels == 10).sum(), "tumour": (prediction.labels == 255).sum()}
        assert prediction.probabilities is not None and prediction.probabilities.shape[0] == 2
        assert np.array_equal(prediction.probabilities[0] > 0.5, prediction.labels > 0)
        assert np.array_equal(prediction.probabilities[1] > 0.5, prediction.labels == 255)
    with pytest.raises(ModelError, match="have different regions"):
        Predictor([one, make_model("plain.ts")])


def test_windows_are_told_over_all_models_whether_they_prepare_alike_or_not(make_model: MakeModel) -> None:
    one, other = make_model(), make_model("other.ts", nonzero=True)
    for models in ([one], [one, one, one], [one, other]):
        told: list[tuple[int, int]] = []
        Predictor(models, batch=1).predict(blocks_volume(), told=lambda done, total, told=told: told.append((done, total)))
        shares = [done / total for done, total in told]
        assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) >= len(models)


def test_windows_of_air_are_background_without_asking_the_network(make_model: MakeModel) -> None:
    asked: list[int] = []

    class Counting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([-x[:, 0], x[:, 0], torch.full_like(x[:, 0], -9.0)], dim=1)  # background below 0, organ above

    channels = (Channel("CT", "ct", -1000.0, 1000.0, 0.0, 500.0),)
    array = np.full((1, 60, 10, 10), -1100.0, dtype=np.float32)
    array[0, 5:15, 3:8, 3:8] = 300.0
    volume = Volume(array, Grid((60, 10, 10), np.diag([1.0, 1.0, 2.0, 1.0])))
    labels = {}
    for skip in (False, True):
        model = make_model(f"{skip}.ts", Counting(), channels=channels, skip_empty=skip, patch_size=(8, 8, 8), spacing_mm=(1.5, 1.0, 2.0))
        told: list[tuple[int, int]] = []
        labels[skip] = Predictor([model], batch=1).predict(volume, told=lambda done, total, told=told: told.append((done, total))).labels
        asked.append(told[-1][1])
    assert (labels[True][6:14, 3:8, 3:8] == 10).all()
    assert np.array_equal(labels[True], labels[False])
    assert asked[1] < asked[0] / 2


def test_flips_that_the_plan_allows_are_averaged(make_model: MakeModel) -> None:
    class Sided(nn.Module):
        """Says organ in the first half of every window along i, whatever lies there."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = (torch.arange(x.shape[2], device=x.device) * 2 < x.shape[2]).to(x.dtype).view(1, -1, 1, 1)
            organ = (4 * first - 1.5).expand_as(x[:, 0])
            return torch.stack([torch.zeros_like(organ), organ, torch.full_like(organ, -9.0)], dim=1)

    volume = Volume(np.zeros((1, 8, 8, 8), dtype=np.float32), Grid((8, 8, 8), np.eye(4)))
    allowed = ((True, True, False), (False, False, False))
    sided = {flips: make_model(f"{flips[0]}.ts", Sided(), patch_size=(8, 8, 8), flips=flips) for flips in allowed}
    for (along, *_), model in sided.items():
        plain, averaged = (Predictor([model], flips=flips).predict(volume).labels for flips in (False, True))
        assert (plain[:4] == 10).all() and (plain[4:] == 0).all()
        assert np.array_equal(averaged, plain) != along
        assert (averaged == 10).all() == along  # (2.5 - 1.5) / 2 is above the background's 0
    assert Predictor(list(sided.values()), flips=True).passes == 4 + 1


def test_a_volume_of_blocks_is_restored_as_a_whole_one_is(make_model: MakeModel) -> None:
    class Waves(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.sin(3 * x), torch.cos(2 * x), torch.sin(5 * x + 1)], dim=1)

    generator = np.random.default_rng(0)
    array = generator.normal(0, 1, (1, 40, 50, 26)).astype(np.float32)
    volume = Volume(array, Grid((40, 50, 26), np.diag([1.0, 0.8, 1.3, 1.0])))
    model = make_model("waves.ts", Waves(), patch_size=(16, 12, 16), spacing_mm=(1.3, 0.9, 1.1), axes=(1, 2, 0))
    found = Predictor([model]).predict(volume, probabilities=True)
    prepared = prepare(volume, model.plan)
    logits = model.network(prepared.image[None])[0]  # it looks at single voxels: the whole volume at once gives the same
    assert found.probabilities is not None
    assert np.allclose(found.probabilities, restore_probabilities(logits, prepared.trace), atol=1e-5)
    assert np.array_equal(found.labels, Predictor([model]).predict(volume).labels)
