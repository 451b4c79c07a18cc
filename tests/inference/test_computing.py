"""The first scan decides on runtime and precision, and only what agrees with fp32 is kept."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segpipe.errors import ModelError
from segpipe.geometry.grid import Grid, Volume
from segpipe.inference import computing
from segpipe.inference.computing import Wanted, choose_computing
from segpipe.inference.gather import Examination
from segpipe.io.write import write_volume
from segpipe.package.extra import installed
from tests.inference.conftest import MakeModel, blocks

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(not installed("openvino"), reason="needs the extra `cpu`")


@pytest.fixture
def scans(tmp_path: Path) -> list[Examination]:
    """One that cannot be read, and one with labels in its middle."""
    (tmp_path / "broken.nii.gz").write_bytes(b"no")
    path = tmp_path / "scan.nii.gz"
    write_volume(path, Volume(blocks((20, 18, 12)), Grid((20, 18, 12), np.eye(4))))
    return [Examination("broken", (tmp_path / "broken.nii.gz",)), Examination("scan", (path,))]


@needs_openvino
def test_openvino_is_kept_where_it_gives_the_logits_of_torch(make_model: MakeModel, scans: list[Examination]) -> None:
    model = make_model()
    found = choose_computing([model], CPU, Wanted("openvino"), scans)
    assert (found.models[0].runtime, found.bf16) == ("openvino", False)
    image = torch.randn(2, 1, 8, 8, 8)
    with torch.inference_mode():
        assert torch.allclose(found.models[0].network(image), model.network(image), atol=1e-4)


@needs_openvino
def test_openvino_that_gives_other_numbers_is_left_or_refused(
    make_model: MakeModel, scans: list[Examination], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    model = make_model()
    wrong = replace(model, network=lambda windows: model.network(windows) + 1, runtime="openvino")
    monkeypatch.setattr(computing, "in_runtime", lambda *arguments: wrong)
    caplog.set_level(logging.INFO)
    assert choose_computing([model], CPU, Wanted("auto"), scans).models == (model,)
    assert "runs in torch: OpenVINO gives other numbers" in caplog.text
    with pytest.raises(ModelError, match="gives other numbers than torch: use --runtime torch"):
        choose_computing([model], CPU, Wanted("openvino"), scans)


@pytest.mark.parametrize(("error", "kept"), [(0.0, True), (0.6, False)])
def test_bf16_is_kept_where_it_gives_the_label_map_of_fp32(
    make_model: MakeModel, scans: list[Examination], monkeypatch: pytest.MonkeyPatch, caplog: Any, error: float, kept: bool
) -> None:
    logits = computing._logits
    monkeypatch.setattr(computing, "_logits", lambda model, window, device, bf16: logits(model, window + error * bf16, device, False))
    caplog.set_level(logging.INFO)
    assert choose_computing([make_model()], CPU, Wanted("torch", "bf16"), scans).bf16 is kept
    assert ("fp32 is used: on the first scan bf16 agrees with it on" in caplog.text) is not kept


def test_without_a_label_there_is_nothing_to_compare_and_fp32_is_used(make_model: MakeModel, tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "empty.nii.gz"
    write_volume(path, Volume(np.zeros((1, 9, 9, 9), np.float32), Grid((9, 9, 9), np.eye(4))))
    caplog.set_level(logging.INFO)
    assert not choose_computing([make_model()], CPU, Wanted("torch", "bf16"), [Examination("empty", (path,))]).bf16
    assert "has no label on which bf16 could be compared" in caplog.text


def test_nothing_is_decided_where_no_scan_can_be_read(make_model: MakeModel, scans: list[Examination]) -> None:
    model = make_model()
    found = choose_computing([model], CPU, Wanted("torch", "bf16"), scans[:1])
    assert (found.models, found.bf16) == ((model,), False)


@needs_openvino
def test_models_of_several_dimensions_keep_their_order(make_model: MakeModel, scans: list[Examination]) -> None:
    models = [make_model("a.ts"), make_model("b.ts", dims=2), make_model("c.ts")]
    found = choose_computing(models, CPU, Wanted("openvino"), scans)
    assert [model.path for model in found.models] == [model.path for model in models]
    assert {model.runtime for model in found.models} == {"openvino"}
