"""Which runtime and precision a call uses."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
import torch

from segpipe.errors import ConfigError, ModelError
from segpipe.inference.computing import Wanted, choose_computing
from segpipe.package.agreement import KEY, agreement
from segpipe.package.model_file import Model

from .conftest import MakeModel

CPU = torch.device("cpu")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that is fast at bf16."""
    monkeypatch.setattr("segpipe.inference.computing.fast_bf16", lambda device: True)
    monkeypatch.setattr("segpipe.inference.computing.knows_bf16", lambda: True)


def telling(model: Model, dice: float | None) -> Model:
    """The model with a document that tells how well bf16 agreed."""
    return dataclasses.replace(model, document={**model.document, KEY: None if dice is None else agreement(dice, 10)})


def test_openvino_is_kept_where_it_gives_the_logits_of_torch(make_model: MakeModel) -> None:
    pytest.importorskip("openvino")
    computing = choose_computing([make_model()], CPU, Wanted(runtime="openvino"))
    assert [model.runtime for model in computing.models] == ["openvino"]
    assert not computing.bf16


def test_openvino_that_gives_other_numbers_is_left_or_refused(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("segpipe.inference.computing.same_logits", lambda found, expected: False)
    monkeypatch.setattr("segpipe.package.runtime._TINY", 0.0)
    with pytest.raises(ModelError, match=r"model.ts: OpenVINO gives other numbers than torch: use --runtime torch"):
        choose_computing([make_model()], CPU, Wanted(runtime="openvino"))
    with caplog.at_level(logging.INFO, logger="segpipe"):
        assert choose_computing([make_model()], CPU, Wanted()).models[0].runtime == "torch"
    assert "runs in torch: OpenVINO gives other numbers than torch" in caplog.text


@pytest.mark.parametrize(("dice", "taken"), [(1.0, True), (0.999, True), (0.9989, False), (None, False)])
def test_bf16_is_taken_by_itself_only_where_the_training_says_that_it_agrees(
    make_model: MakeModel, quick: None, caplog: pytest.LogCaptureFixture, dice: float | None, taken: bool
) -> None:
    with caplog.at_level(logging.INFO, logger="segpipe"):
        assert choose_computing([telling(make_model(), dice)], CPU, Wanted(runtime="torch")).bf16 is taken
    assert ("fp32 is used" in caplog.text) is not taken


def test_the_model_that_agrees_least_decides(make_model: MakeModel, quick: None) -> None:
    model = make_model()
    for values, taken in (((1.0, 0.9995), True), ((1.0, 0.9), False), ((0.9, 1.0), False), ((1.0, None), False), ((None, 1.0), False)):
        models = [telling(model, value) for value in values]
        assert choose_computing(models, CPU, Wanted(runtime="torch")).bf16 is taken


def test_bf16_by_hand_is_taken_and_what_speaks_against_it_is_told(
    make_model: MakeModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.inference.computing.fast_bf16", lambda device: False)
    for dice, word in ((0.95, "a Dice of 0.9500"), (None, "no training has compared"), (1.0, "")):
        caplog.clear()
        assert choose_computing([telling(make_model(), dice)], CPU, Wanted("torch", "bf16")).bf16
        assert word in caplog.text
        assert bool(caplog.text) is bool(word)
    assert not choose_computing([telling(make_model(), 1.0)], CPU, Wanted("torch", "auto")).bf16  # the processor is slow at it


@pytest.mark.parametrize("damaged", [{"dice": "1.0"}, {"dice": True}, {}, [], 3])
def test_a_document_that_does_not_tell_as_it_must_tells_nothing(make_model: MakeModel, quick: None, damaged: Any) -> None:
    model = make_model()
    model = dataclasses.replace(model, document={**model.document, KEY: damaged})
    assert not choose_computing([model], CPU, Wanted(runtime="torch")).bf16


def test_models_of_several_dimensions_keep_their_order(make_model: MakeModel) -> None:
    models = [make_model("flat.ts", dims=2, axes=(2, 0, 1)), make_model("solid.ts")]
    computing = choose_computing(models, CPU, Wanted())
    assert [model.path.name for model in computing.models] == ["flat.ts", "solid.ts"]


@pytest.mark.parametrize(("name", "word"), [("precision", "float32"), ("runtime", "onnx")])
def test_a_word_that_is_not_known_is_not_taken_for_another_one(name: str, word: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is '{word}'; must be one of "):
        Wanted(**{name: word})  # type: ignore[arg-type]


def test_openvino_in_bf16_must_be_about_as_near_to_fp32_as_torch_is(
    make_model: MakeModel, quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    model = telling(make_model(), 1.0)
    assert choose_computing([model], CPU, Wanted(runtime="openvino")).bf16
    monkeypatch.setattr("segpipe.inference.computing._FARTHER", 0.0)
    monkeypatch.setattr("segpipe.inference.computing._NEAR", -1.0)
    with caplog.at_level(logging.INFO, logger="segpipe"):
        assert not choose_computing([model], CPU, Wanted(runtime="openvino")).bf16
    assert "in bf16 OpenVINO is" in caplog.text


def heard(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the program says; torch has much to say to its authors while it compiles."""
    return [record.message for record in caplog.records if record.name.startswith("segpipe")]


@pytest.mark.usefixtures("uncompiled_backend")
def test_compiled_code_is_kept_where_it_gives_the_logits_of_torch(make_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model()
    with caplog.at_level(logging.INFO, logger="segpipe"):
        computing = choose_computing([model], CPU, Wanted(precision="fp32", compile=True))
    [after] = computing.models
    assert (after.runtime, computing.bf16) == ("compiled", False)
    assert [line.partition(" (")[0] for line in heard(caplog)] == [f"{model.path} is compiled"]
    window = torch.randn(2, 1, 8, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(after.network(window), model.network(window))


@pytest.mark.usefixtures("uncompiled_backend")
def test_compiled_code_in_bf16_must_be_about_as_near_to_fp32_as_torch_is(
    make_model: MakeModel, quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = telling(make_model(), 1.0)
    computing = choose_computing([model], CPU, Wanted(compile=True))
    assert (computing.models[0].runtime, computing.bf16) == ("compiled", True)
    monkeypatch.setattr("segpipe.inference.computing._NEAR", -1.0)
    computing = choose_computing([model], CPU, Wanted(compile=True))
    assert (computing.models[0].runtime, computing.bf16) == ("torch", True)
    assert heard(caplog)[-1:] == [f"{model.path} is not compiled: it gives other numbers than before"]


def test_where_nothing_can_be_compiled_torch_computes_as_it_is_and_one_line_says_why(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler\nwhatsoever")

    monkeypatch.setattr("segpipe.package.compiling.BACKEND", failing)
    monkeypatch.setattr("segpipe.package.compiling.OPTIONS", None)
    model = make_model()
    assert choose_computing([model], CPU, Wanted(precision="fp32", compile=True)).models == (model,)
    assert heard(caplog) == [f"{model.path} is not compiled: RuntimeError: no compiler"]


@pytest.mark.usefixtures("uncompiled_backend")
def test_compiled_code_that_gives_other_numbers_is_left(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("segpipe.inference.computing.same_logits", lambda found, expected: False)
    model = make_model()
    assert choose_computing([model, model], CPU, Wanted(precision="fp32", compile=True)).models == (model, model)
    assert heard(caplog) == [f"{model.path} is not compiled: it gives other numbers than before"] * 2


def test_openvino_is_not_to_be_compiled(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match="compile is for the networks of torch, and OpenVINO compiles its own: leave out one of the two"):
        Wanted(runtime="openvino", compile=True)
    model = dataclasses.replace(make_model("model.onnx"), runtime="openvino")
    with pytest.raises(ModelError, match=r"model.onnx: openvino computes it, and compiles it by itself: leave out --compile"):
        choose_computing([model, model], CPU, Wanted(precision="fp32", compile=True))
