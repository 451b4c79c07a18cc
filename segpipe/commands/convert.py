"""`segpipe convert IN OUT`: DICOM series -> NIfTI files, each proved to lie where the headers say."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from segpipe.commands.outcome import Outcome
from segpipe.dicom.listing import LeftOut, list_stacks
from segpipe.dicom.policy import Policy, parse_policy
from segpipe.dicom.proof import MOST_OFF_MM, furthest_mm
from segpipe.dicom.stack import Stack
from segpipe.dicom.verdict import judge
from segpipe.dicom.volume import read_stack
from segpipe.errors import ConfigError, DataError, GeometryError, SegpipeError
from segpipe.io.atomic import check_folder
from segpipe.io.find import find_files
from segpipe.io.read import read_grid
from segpipe.io.write import write_volume
from segpipe.progress import track

log = logging.getLogger(__name__)

SUFFIX = ".nii.gz"


def convert(source: Path, out: Path, policy_words: Sequence[str], overwrite: bool) -> Outcome:
    """Write `OUT/<scan>.nii.gz` for each stack that the policy takes or repairs.

    Returns:
        A table of all stacks; exit code 3 where one was refused or a file is damaged.

    Raises:
        DataError: there is no DICOM at `source`, or pydicom is not installed.
        ConfigError: an unknown policy, `out` cannot be written, or a file is there already.
    """
    policy = parse_policy(policy_words)
    listing = list_stacks(find_files(source))
    if not (listing.stacks or listing.left_out or listing.faults):
        raise DataError(f"{source}: holds no DICOM; must be a folder, a zip archive or a file of it: check the path")
    check_folder(out)
    taken = [stack for stack in listing.stacks if judge(stack, policy).action != "refuse"]
    _check_free([out / f"{stack.name}{SUFFIX}" for stack in taken], overwrite)
    table = Table(title=f"{len(taken)} of {len(listing.stacks)} series go into {out}", title_justify="left", title_style="bold")
    for column in ("scan", "slices", "voxels", "off by at most mm", "what was done, or why not"):
        table.add_column(column, overflow="fold")
    failed = len(listing.faults)
    for stack in track(listing.stacks, f"converting {len(listing.stacks)} series"):
        cells = _converted(stack, policy, out)
        failed += not cells[2]
        table.add_row(*(Text(cell) for cell in cells))
    lines = [f"damaged  {fault.path}: {fault.why}" for fault in listing.faults]
    return Outcome([table, *_left_lines(listing.left_out), *lines], DataError.exit_code if failed else 0)


def _check_free(paths: Sequence[Path], overwrite: bool) -> None:
    there = next((path for path in paths if path.exists()), None)
    if there is not None and not overwrite:
        raise ConfigError(f"{there}: is there already, and would be replaced: choose another output folder, or give --overwrite")


def _converted(stack: Stack, policy: Policy, out: Path) -> tuple[str, str, str, str, str]:
    """Cells of the table; without voxels where the stack has failed."""
    try:
        scan = read_stack(stack, policy)
        path = out / f"{stack.name}{SUFFIX}"
        write_volume(path, scan.volume)
        off = _proved(stack, path)
    except SegpipeError as error:
        return stack.name, str(len(stack.planes)), "", "", str(error)
    voxels = " x ".join(map(str, scan.volume.grid.shape))
    return stack.name, str(len(stack.planes)), voxels, f"{off:.4f}", "; ".join(scan.notes)


def _proved(stack: Stack, path: Path) -> float:
    """mm by which the file's voxels lie off; the file is taken away where that is too much.

    Raises:
        GeometryError: it was.
    """
    if stack.layout is None:
        raise GeometryError(f"{path}: its slices do not say where they lie")
    off = furthest_mm(stack, stack.layout, read_grid(path))
    if off > MOST_OFF_MM:
        path.unlink()
        raise GeometryError(f"{path}: would lie {off:.3g} mm off its slices; must be less than {MOST_OFF_MM}: report this series")
    return off


def _left_lines(left_out: Sequence[LeftOut]) -> list[str]:
    return [f"left out  {left.name}: {len(left.planes)} picture(s), {left.why}" for left in left_out]
