"""Checkpoints are read without executing anything, and the averaged weights win."""

import pickle
from pathlib import Path

import pytest
import torch

from segpipe.errors import ConfigError, ModelError
from segpipe.training.checkpoint import WholeFiles, network_weights, read_checkpoint


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("executed"),))


def test_averaged_weights_are_taken_where_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    state = {"network.w": torch.zeros(1), "averaged.module.w": torch.ones(1), "averaged.n_averaged": torch.tensor(3)}
    torch.save({"state_dict": state}, path)
    assert {key: float(value) for key, value in network_weights(path).items()} == {"w": 1.0}


def test_without_averaging_the_plain_weights_are_taken(tmp_path: Path) -> None:
    torch.save({"state_dict": {"network.w": torch.zeros(1)}}, tmp_path / "a.ckpt")
    assert set(network_weights(tmp_path / "a.ckpt")) == {"w"}


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.ckpt") as caught:
        read_checkpoint(tmp_path / "a.ckpt")
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing"):
        read_checkpoint(tmp_path / "none.ckpt")


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "a.ckpt")
    with pytest.raises(ModelError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_hostile_pickle_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "evil": Hostile()}, "a.ckpt", pickle_module=pickle)
    with pytest.raises(ModelError):
        read_checkpoint(Path("a.ckpt"))
    assert not Path("executed").exists()


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    WholeFiles().save_checkpoint({"state_dict": {"network.w": torch.ones(1)}}, path)
    assert float(network_weights(path)["w"]) == 1.0

    def full(self: Path, data: object) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError, match=r"a\.ckpt: cannot be written \(No space left on device\)"):
        WholeFiles().save_checkpoint({"state_dict": {}}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]
    assert float(network_weights(path)["w"]) == 1.0
