"""`python -m segpipe.dataset.phantom data/samples` makes the project's samples again; with `--kind` a data set of any size."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segpipe.dataset.phantom.write import PHANTOMS, write_phantom, write_samples
from segpipe.errors import SegpipeError


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, write, say what was written; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m segpipe.dataset.phantom", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=list(PHANTOMS), help="write one data set of this kind instead of the samples")
    parser.add_argument("--cases", type=int, default=12, help="number of cases (with --kind; default 12)")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other patients (with --kind; default 0)")
    parser.add_argument("--size", choices=("small", "demo"), default="demo", help="width of the voxels (with --kind; default demo)")
    parser.add_argument("--layout", choices=("folders", "msd"), default="folders", help="with --kind; default folders")
    given = parser.parse_args(arguments)
    try:
        if given.kind is None:
            write_samples(given.folder)
            sys.stdout.write(f"samples written to {given.folder}\n")
        else:
            cases = write_phantom(given.folder, given.kind, given.cases, given.seed, given.size, given.layout)
            sys.stdout.write(f"{len(cases)} cases ({given.kind}, seed {given.seed}) written to {given.folder}\n")
    except SegpipeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
