"""Where the shipped YAML files lie, and which there are. Starts without Hydra, for the command line's help."""

from __future__ import annotations

from pathlib import Path

import segpipe
from segpipe.errors import ConfigError

PRIMARY = "default"
TASKS = "conf"
"""Name of the group of task files, so that a user writes `conf=prostate`."""


def conf_folder() -> Path:
    """The folder `conf/`: inside the installed package, or beside it in a checkout.

    Raises:
        ConfigError: neither is there.
    """
    package = Path(segpipe.__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / f"{PRIMARY}.yaml").is_file():
            return folder
    raise ConfigError(f"{package / 'conf'}: the shipped settings are missing; install segpipe again")


def groups() -> dict[str, list[str]]:
    """The choices of each group, by name: `{"network": ["unet", "vnet"], ...}`."""
    folders = sorted(path for path in conf_folder().iterdir() if path.is_dir())
    return {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in folders}


def describe(group: str) -> dict[str, str]:
    """What each choice of a group is for: the first comment of its file that is no package header."""
    return {path.stem: _first_comment(path) for path in sorted((conf_folder() / group).glob("*.yaml"))}


def _first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and "@package" not in line:
            return line[2:].strip()
    return ""
