import json
from pathlib import Path
from typing import Any

import pytest
import torch

from segpipe.commands import doctor as command
from segpipe.commands.machine import compiler, headers, machine
from segpipe.errors import ConfigError


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return machine()


def state(facts: dict[str, Any], name: str) -> str:
    return next((feature.state for feature in command.features(facts) if feature.name == name), "absent")


def test_versions_devices_features_and_memory_are_found(facts: dict[str, Any]) -> None:
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["processor"]["usable"] >= 1
    assert set(facts["processor"]["features"]) >= {"amx_bf16", "avx512_bf16"}
    assert len(facts["gpus"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert 0 < facts["memory"]["available_gb"] <= facts["memory"]["total_gb"]
    assert facts["bf16"]["faster"] == pytest.approx(facts["bf16"]["fp32_seconds"] / facts["bf16"]["bf16_seconds"])


def test_what_processor_torch_sees_is_what_the_system_says(facts: dict[str, Any]) -> None:
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("needs /proc/cpuinfo")
    processor = facts["processor"]
    if processor["torch_avx512_bf16"]:
        assert processor["features"]["avx512_bf16"]
    if processor["torch_amx"]:
        assert processor["features"]["amx_tile"]


def test_a_package_that_is_not_there_names_the_feature_and_the_cure(facts: dict[str, Any]) -> None:
    without = {**facts, "versions": {**facts["versions"], "tensorboard": None, "pydicom": None, "openvino": None}}
    found = {feature.name: feature for feature in command.features(without)}
    assert (found["tensorboard"].state, found["tensorboard"].cure) == ("missing", "pip install 'segpipe[tensorboard]'")
    assert (found["dicom"].state, found["dicom"].cure) == ("missing", "pip install 'segpipe[dicom]'")
    assert (found["openvino"].state, found["openvino"].cure) == ("missing", "pip install 'segpipe[cpu]'")


@pytest.mark.parametrize(
    ("package", "version"), [("torch", "2.9.1+cpu"), ("pytorch-lightning", "2.6.3"), ("omegaconf", "2.4.0"), ("monai", None)]
)
def test_versions_that_must_not_be_used_break_it(package: str, version: str | None, facts: dict[str, Any]) -> None:
    assert state(facts, "packages") == "ok"
    assert state({**facts, "versions": {**facts["versions"], package: version}}, package) == "broken"


@pytest.mark.parametrize(("package", "version"), [("torch", "2.10.0"), ("pytorch-lightning", "2.6.4"), ("pytorch-lightning", "2.6.20")])
def test_versions_that_look_like_them_are_well(package: str, version: str, facts: dict[str, Any]) -> None:
    assert state({**facts, "versions": {**facts["versions"], package: version}}, "packages") == "ok"


def test_a_compiler_is_looked_for_where_torch_does(facts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    assert compiler() is None
    assert state({**facts, "compiler": None}, "torch.compile") == "missing"
    (tmp_path / "c++").touch(mode=0o755)
    assert compiler() == str(tmp_path / "c++")
    assert state({**facts, "compiler": compiler(), "headers": True}, "torch.compile") == "ok"
    assert state({**facts, "compiler": compiler(), "headers": False}, "torch.compile") == "missing"


def test_headers_are_pythons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert not headers()
    (tmp_path / "Python.h").touch()
    assert headers()


def test_little_memory_and_disk_are_said(facts: dict[str, Any]) -> None:
    poor = {**facts, "memory": {**facts["memory"], "available_gb": 1.0}, "disk_free_gb": {"/full": 0.1}}
    assert state(poor, "memory") == state(poor, "disk /full") == "missing"


def test_the_json_holds_all_that_is_shown(tmp_path: Path, facts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "machine", lambda: facts)
    path = tmp_path / "new" / "machine.json"
    outcome = command.doctor(path)
    written = json.loads(path.read_text())
    assert outcome.exit_code == 0
    assert written["versions"] == facts["versions"]
    assert {feature["name"] for feature in written["features"]} >= {"GPU", "bf16 on the processor", "mlflow"}


def test_a_missing_package_ends_with_two(facts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "machine", lambda: {**facts, "versions": {**facts["versions"], "monai": None}})
    assert command.doctor(None).exit_code == 2


def test_an_unwritable_place_is_refused(facts: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "machine", lambda: facts)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        command.doctor(tmp_path / "file" / "machine.json")
