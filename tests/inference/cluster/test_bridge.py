"""How a cluster is joined, and what is said when there is none."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segpipe.errors import ConfigError
from segpipe.inference.cluster.bridge import _check_address, _node
from segpipe.inference.cluster.room import Node
from segpipe.package.model_file import Model

REPOSITORY = Path(__file__).resolve().parents[3]


def predict(*words: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**own, "PYTHONPATH": os.pathsep.join(map(str, [*([path] if path else []), REPOSITORY])), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "segpipe", "predict", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_without_ray_one_line_says_how_to_install_it(make_model: Any, tmp_path: Path) -> None:
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "ray.py").write_text("raise ImportError('not installed')")
    (tmp_path / "in").mkdir()
    model: Model = make_model()
    run = predict(model.path, tmp_path / "in", tmp_path / "out", "--engine", "ray", path=tmp_path / "shadow")
    assert run.returncode == 2 and not run.stdout
    assert run.stderr == "error: --engine ray needs Ray: pip install 'segpipe[ray]', here and on every node\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'segpipe[ray]'")
def test_without_a_cluster_one_line_says_how_to_start_one(make_model: Any, tmp_path: Path, free_port: int) -> None:
    (tmp_path / "in").mkdir()
    model: Model = make_model()
    run = predict(model.path, tmp_path / "in", tmp_path / "out", "--engine", "ray", "--ray-address", f"127.0.0.1:{free_port}")
    assert run.returncode == 2 and not run.stdout and run.stderr.count("\n") == 1
    assert "no Ray cluster answers at" in run.stderr and "ray start --head" in run.stderr


def test_usual_commands_never_import_ray() -> None:
    code = """
import sys, segpipe, segpipe.commands.predict, segpipe.inference.call
import segpipe.inference.cluster.ray_engine, segpipe.inference.cluster.stages
print([name for name in sys.modules if name == "ray" or name.startswith("ray.")])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    assert (run.stdout, run.returncode) == ("[]\n", 0), run.stderr


def test_the_command_of_a_cluster_imports_no_torch() -> None:
    code = """
import sys, segpipe.commands.predict, segpipe.inference.cluster.ray_engine, segpipe.inference.cluster.bridge
print("torch" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    assert (run.stdout, run.returncode) == ("False\n", 0), run.stderr


def test_an_address_that_cannot_be_is_refused_at_once(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    _check_address("auto")
    for address, said in (
        ("ray://head:10001", "must be auto or HOST:PORT"),
        (f"127.0.0.1:{free_port}", "no Ray cluster answers"),
        ("nonsense", "no Ray cluster answers"),
    ):
        with pytest.raises(ConfigError, match=said):
            _check_address(address)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    with pytest.raises(ConfigError, match=f"--ray-address auto: no Ray cluster answers at 127.0.0.1:{free_port}"):
        _check_address("auto")


def test_a_node_has_the_name_that_a_person_gave_it_else_that_of_its_machine() -> None:
    plain = {"NodeID": "1", "NodeName": "10.0.0.1", "NodeManagerAddress": "10.0.0.1", "NodeManagerHostname": "host7"}
    has: dict[str, Any] = {"Resources": {"CPU": 4.0, "GPU": 2.0, "memory": 8e9}}
    assert Node(**_node({**plain, **has})) == Node("1", "host7", 4, 2, 8.0)
    assert Node(**_node({**plain, "NodeName": "big", "Resources": {}})) == Node("1", "big", 0)
