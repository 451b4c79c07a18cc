"""The stories in `workflows/` and the commands on the data cards do what they say."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from segpipe.config.compose import compose_settings
from segpipe.io.read import read_volume

REPOSITORY = Path(__file__).resolve().parents[1]
WORKFLOWS = REPOSITORY / "workflows"
CARDS = sorted((REPOSITORY / "data" / "cards").glob("*.md"))
TINY = "training.max_steps=2 plan.patch_size=[16,16,8] plan.batch_size=2 network.stages=2 network.features=[4,8]"
TINY += " training.overlays=1 augment=light threads=1"

pytestmark = pytest.mark.skipif(not WORKFLOWS.is_dir(), reason="workflows/ is not here: tests run outside the repository")


def environment() -> dict[str, str]:
    paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


def bash_blocks(page: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    return [shlex.split(line) for block in bash_blocks(page) for line in block.splitlines() if line.startswith("segpipe ")]


def in_small(script: str) -> str:
    """The same commands with a few steps on few coarse scans."""
    script = re.sub(r"training\.max_minutes=\S+", TINY, script)
    script = re.sub(r"^(segpipe plan conf=\./.*)$", rf"\1 {TINY}", script, flags=re.MULTILINE)  # a shipped task is planned as it is
    script = re.sub(r"^(python -m segpipe\.dataset\.phantom .*)$", r"\1 --size small", script, flags=re.MULTILINE)
    return re.sub(r"--cases \d+", "--cases 6", script)


def run_story(name: str, folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    start = f'set -eu\npython() {{ {shlex.quote(sys.executable)} "$@"; }}\nsegpipe() {{ {command} "$@"; }}\n'
    script = start + in_small("\n".join(bash_blocks(WORKFLOWS / name)))
    own = {**environment(), "SEGPIPE_CACHE": str(folder / "cache")}  # which remembers what was pulled
    return subprocess.run(["bash", "-c", script], cwd=folder, env=own, capture_output=True, text=True, timeout=900)


def told(done: subprocess.CompletedProcess[str]) -> str:
    return f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.timeout(600)
def test_the_quick_start_runs_from_nothing_to_pictures(tmp_path: Path) -> None:
    arguments = ["--out", "demo", "--steps", "2", "--cases", "5", "--held-back", "2", "--size", "small", *TINY.split()[1:]]
    command = [sys.executable, str(WORKFLOWS / "quick_start.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, told(done)
    for verb in ("inspect", "train conf=phantom", "export", "predict", "evaluate"):
        assert f"$ segpipe {verb}" in done.stdout
    assert "Total time" in done.stdout
    demo = tmp_path / "demo"
    assert (demo / "run" / "model.ts").stat().st_size > 0
    pictures = sorted((demo / "pictures").glob("*.png"))
    assert [path.name for path in pictures] == ["prostate_000.png", "prostate_001.png"]
    with Image.open(pictures[0]) as picture:
        assert min(picture.size) > 300
    assert set(json.loads((demo / "scores.json").read_text())["summary"]) == {"1", "2", "mean"}


def test_the_quick_start_stops_where_a_command_fails(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(WORKFLOWS / "quick_start.py"),
        "--out",
        "demo",
        "--cases",
        "2",
        "--held-back",
        "1",
        "--size",
        "small",
        "nonsense=1",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, told(done)
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr
    assert "=== 4" not in done.stdout


@pytest.mark.timeout(900)
def test_the_whole_way_leads_from_scans_to_a_label_map_in_the_page(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    arguments = ["--phantom", "--out", "way", "--steps", "2", "--cases", "5", "--size", "small", "--set", *TINY.split()[1:]]
    command = [sys.executable, str(WORKFLOWS / "whole_way.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, told(done)
    assert done.stdout.count("PASS") == 2, told(done)  # as packaged, and as pulled
    assert "the same, voxel for voxel" in done.stdout
    assert "training.resume=auto" in done.stdout  # or the way could be gone once
    way = tmp_path / "way"
    assert "body_part: prostate\n" in (way / "card.yaml").read_text(encoding="utf-8")
    received = read_volume(way / "received.nii.gz")
    assert received.array.shape == read_volume(next((way / "alone").iterdir())).array.shape
    if "no browser to drive" not in done.stdout:
        with Image.open(way / "page.png") as picture:
            assert picture.size[0] > 1000
            assert len(picture.convert("RGB").resize((64, 40)).getcolors(64 * 40) or ()) > 50


@pytest.mark.timeout(900)
def test_the_prostate_story_runs(tmp_path: Path, forked_command: str) -> None:
    done = run_story("prostate.md", tmp_path, forked_command)
    assert done.returncode == 0, told(done)
    assert (tmp_path / "preview.png").is_file()
    assert len(list((tmp_path / "predictions").glob("*.nii.gz"))) == 6
    assert len(list((tmp_path / "predictions_both").glob("*.nii.gz"))) == 6
    assert json.loads((tmp_path / "scores.json").read_text())["labels"] == {"1": "PZ", "2": "TZ"}


@pytest.mark.timeout(900)
def test_the_story_of_your_own_data_runs(tmp_path: Path, forked_command: str) -> None:
    done = run_story("your_own_data.md", tmp_path, forked_command)
    assert done.returncode == 0, told(done)
    assert (tmp_path / "runs" / "mine" / "model.ts").is_file()
    assert len(list((tmp_path / "runs" / "folds").glob("*/model.ts"))) == 3
    splits = json.loads((tmp_path / "runs" / "mine" / "splits.json").read_text())
    held_out = {"anna_2019", "anna_2021"} & set(splits["validation"])
    assert len(held_out) in {0, 2}  # one patient's scans never part
    assert (tmp_path / "my_scores.json").is_file()


@pytest.mark.timeout(900)
def test_the_story_of_publishing_runs(tmp_path: Path, forked_command: str) -> None:
    shutil.copy(WORKFLOWS / "card.yaml", tmp_path)
    done = run_story("publish.md", tmp_path, forked_command)
    assert done.returncode == 0, told(done)
    assert done.stdout.count("PASS     prostate-zones@1.0") == 2
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 6


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_every_training_command_on_a_card_composes(card: Path) -> None:
    words = commands(card)
    assert words, f"{card.name} shows no command"
    for command in words:
        if command[1] == "train":
            assert compose_settings(command[2:]).settings.dataset.root


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_every_card_names_source_licence_units_labels_faults_and_score(card: Path) -> None:
    text = card.read_text(encoding="utf-8")
    for word in ("| source |", "| licence |", "abel", "Known faults", "\n**"):
        assert word in text
    assert "Expected." in text or "Published scores" in text


def test_the_overviews_list_every_card_and_story() -> None:
    overview = (REPOSITORY / "data" / "README.md").read_text(encoding="utf-8")
    assert [card.name for card in CARDS if f"cards/{card.name}" not in overview] == []
    stories = (WORKFLOWS / "README.md").read_text(encoding="utf-8")
    assert [
        path.name for path in WORKFLOWS.iterdir() if path.suffix in {".md", ".py"} and path.name not in stories and path.name != "README.md"
    ] == []
