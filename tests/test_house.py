"""What holds the house together: import bans, licence and pins, and the built wheel run from another folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("package", ["segpipe.inference", "segpipe.package", "segpipe.prepare"])
def test_using_a_model_imports_nothing_of_the_training_stack(package: str) -> None:
    code = f"""
import importlib, pkgutil, sys
import {package} as package
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
banned = ("hydra", "omegaconf", "pytorch_lightning", "lightning_fabric", "monai", "segpipe.network", "segpipe.training", "segpipe.config")
print([name for name in sys.modules if name in banned or name.startswith(tuple(word + "." for word in banned))])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    assert (run.stdout, run.returncode) == ("[]\n", 0), run.stderr


def test_settings_and_errors_import_no_torch_and_no_numpy() -> None:
    code = (
        "import segpipe.settings, segpipe.errors, segpipe.progress, sys; print([m for m in ('torch', 'numpy', 'rich') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert (run.stdout, run.returncode) == ("[]\n", 0), run.stderr


def test_a_prediction_loads_torch_in_its_workers_alone() -> None:
    code = "import segpipe.commands.predict, segpipe.commands.closing, segpipe.inference.call, sys; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert (run.stdout, run.returncode) == ("False\n", 0), run.stderr


def test_every_requirement_is_pinned_within_its_range() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    extras = [word for name, words in PROJECT["optional-dependencies"].items() for word in words if not word.startswith("segpipe[")]
    for word in [*PROJECT["dependencies"], *extras]:
        requirement = Requirement(word)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), word
    assert pins["torch"] == "2.13.0"


def test_what_is_installed_is_what_is_pinned() -> None:
    import importlib.metadata

    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    installed = {name: importlib.metadata.version(name).split("+")[0] for name in ("torch", "monai", "hydra-core", "typer", "numpy")}
    if installed["torch"] != pins["torch"]:
        pytest.skip("another torch than the pinned one is tried on purpose")
    assert installed == {name: pins[name] for name in installed}


def test_the_licence_is_apache_2_in_full() -> None:
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_no_module_is_longer_than_the_house_allows_and_none_has_a_name_without_an_idea() -> None:
    for path in (REPOSITORY / "segpipe").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path
        assert path.stem not in ("utils", "helpers", "common", "base", "manager", "misc"), path


@pytest.fixture(scope="module")
def wheel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, installed without its dependencies into a folder of its own."""
    dist, target = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(REPOSITORY)]
    made = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stdout + made.stderr
    [wheel] = dist.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    assert {f"segpipe/{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / "conf").rglob("*.yaml")} <= shipped
    page = (REPOSITORY / "segpipe" / "server" / "static").rglob("*.*")
    assert {str(path.relative_to(REPOSITORY)) for path in page} <= shipped
    assert not [name for name in shipped if re.match(r"(tests|docs|data|benchmarks|workflows|conf)/", name)]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    put = subprocess.run(install, capture_output=True, text=True, timeout=120)
    assert put.returncode == 0, put.stdout + put.stderr
    return target


def run_wheel(folder: Path, cwd: Path, *arguments: str, module: str = "segpipe") -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.wheel
def test_the_wheel_brings_its_tasks(wheel_folder: Path, tmp_path: Path) -> None:
    shown = run_wheel(wheel_folder, tmp_path, "train", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "conf=prostate" in shown.stdout
    assert str(wheel_folder) in re.sub(r"\s+", "", shown.stdout)
    composed = run_wheel(wheel_folder, tmp_path, "train", "conf=hippocampus", "network=vnet", "--cfg")
    assert "name: vnet" in composed.stdout


@pytest.mark.wheel
def test_the_wheel_does_the_whole_job_from_another_folder(wheel_folder: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    made = run_wheel(
        wheel_folder, tmp_path, str(scans), "--kind", "prostate", "--cases", "5", "--size", "small", module="segpipe.dataset.phantom"
    )
    assert made.returncode == 0, made.stderr
    words = [
        "conf=phantom",
        f"dataset.root={scans}",
        "run_dir=run",
        "training.max_steps=2",
        "network.stages=2",
        "network.features=[4,8]",
        "plan.patch_size=[16,16,8]",
        "plan.batch_size=2",
        "training.overlays=1",
    ]
    trained = run_wheel(wheel_folder, tmp_path, "train", *words)
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "run" / "model.ts").unlink()
    steps = [
        ["export", "run"],
        ["predict", "run/model.ts", str(scans / "images"), "out"],
        ["evaluate", "out", str(scans / "labels"), "--json", "scores.json", "--resamples", "100"],
    ]
    shutil.rmtree(tmp_path / "run" / "cache", ignore_errors=True)
    for step in steps:
        done = run_wheel(wheel_folder, tmp_path, *step)
        assert done.returncode == 0, (step, done.stderr)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert len({case["case"] for case in scores["cases"]}) == 5
    assert (tmp_path / "out" / "predictions.csv").is_file()
