"""What is refused before, and right after, a cluster is asked; `test_ray_cluster` shows the rest with a real one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from segpipe.errors import ConfigError, ModelError
from segpipe.inference.cluster.ray_engine import _check_models, ray_engine
from segpipe.inference.messages import Order
from segpipe.inference.task import Facts


def facts(*contents: bytes) -> Facts:
    """Of model files with these contents."""
    return Facts(("T2",), ((0, "background"),), False, "+".join(hashlib.sha256(data).hexdigest() for data in contents), "fp32")


def test_a_node_that_sees_other_models_than_the_command_is_named(tmp_path: Path) -> None:
    paths = (str(tmp_path / "a.ts"), str(tmp_path / "b.ts"))
    for path in paths:
        Path(path).write_bytes(path.encode())
    _check_models(paths, facts(*(path.encode() for path in paths)), "two")
    with pytest.raises(ModelError, match="a.ts: node two has another file there .*must lie on a disk that all nodes share"):
        _check_models(paths, facts(b"a", b"b"), "two")


def test_a_model_that_only_the_nodes_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none.ts: cannot be read here .*though node two reads it"):
        _check_models((str(tmp_path / "none.ts"),), facts(b"a"), "two")


def test_a_numbered_gpu_is_refused_before_a_cluster_is_asked() -> None:
    with pytest.raises(ConfigError, match="Ray chooses which GPU"), ray_engine(Order(("m.ts",), "out", device="cuda:1"), "auto", 0):
        pass
