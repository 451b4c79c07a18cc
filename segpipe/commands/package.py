"""`segpipe package`, `verify` and `describe`: models that prove themselves."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from segpipe.bundle.card import read_card
from segpipe.bundle.guide import missing
from segpipe.bundle.load import named_package
from segpipe.bundle.minisign import check_beside, read_public_key
from segpipe.bundle.open import Package
from segpipe.bundle.page import tables
from segpipe.bundle.standing import standing, unproved, warnings
from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from segpipe.bundle.verdict import Verdict

log = logging.getLogger(__name__)

_MODEL = "model.ts"
_MORE = ("model.pt2", "model.onnx")


def package(source: Path, card: Path, samples: Path, out: Path | None, device: str = "auto") -> Outcome:
    """Make a package of a run folder or a model file.

    Args:
        source: run folder with its `model.ts` (and `model.pt2`, `model.onnx`, where they are), or a `model.ts`.
        out: folder or `.zip`; None: `NAME-VERSION.zip` here.

    Raises:
        ConfigError, ModelError, DataError: see `read_card`, `make_package`.
    """
    told = read_card(card)
    if not samples.exists():
        raise ConfigError(f"--samples {samples}: does not exist; must be a scan or a folder of scans")
    from segpipe.bundle.make import Sources, make_package
    from segpipe.training.run_folder import RunFolder

    model = source / _MODEL if source.is_dir() else source
    if not model.is_file() or model.suffix != ".ts":
        raise ConfigError(f"{model}: is no model.ts; must be a run folder or its model.ts: segpipe export {source}")
    folder = model.parent
    run = RunFolder(folder) if source.is_dir() or (folder / "plan.json").is_file() else None
    more = tuple(folder / name for name in _MORE if (folder / name).is_file()) if source.is_dir() else ()
    place = out or Path(f"{told.name}-{told.version}.zip")
    made = make_package(Sources(model, more, run, samples, told), place, device)
    lacking = missing(made.document)
    shown = [f"package  {made.label} in {place}, {len(made.document['samples'])} sample(s)"]
    shown += [*standing(made.document), *(f"WARNING  {line}" for line in warnings(made.document))]
    if unproved(made.document):
        shown.append(f"unproved {', '.join(unproved(made.document))}: no sample has it; give one that does")
    if lacking:
        shown.append(f"missing  {len(lacking)} item(s) of the card: {', '.join(lacking)}")
    return Outcome([*shown, f"next     segpipe verify {place}"])


def verify(path: Path, device: str = "auto", key: str = "", timeout: float = 1800.0, memory_gb: float = 0.0) -> Outcome:
    """Look a package through and run its samples; exit code 5 when one differs.

    Args:
        path: of the package, or its `NAME@VERSION`.
        key: public key of minisign by which it must be signed, or its file; empty: no signature is looked at.
        timeout, memory_gb: see `Limits`.

    Raises:
        ModelError: the package is refused.
    """
    package = named_package(path)
    signed = check_beside(package.path, read_public_key(key)) if key else ""
    from segpipe.bundle.verify import Limits
    from segpipe.bundle.verify import verify as run

    verdict = run(package.path, device, Limits(timeout, memory_gb))
    shown: list[Any] = [_table(verdict), *(f"skipped  {line}" for line in verdict.skipped)]
    if signed:
        shown.append(f"signed   by {read_public_key(key).name}: {signed}")
    other = verdict.other_versions
    if verdict.passed:
        told = f" (made with {'; '.join(other)})" if other else ""
        return Outcome(
            [*shown, f"PASS     {verdict.package.label}: {len(verdict.compared)} label map(s) as expected on {verdict.device}{told}"]
        )
    for one in verdict.compared:
        shown += [f"FAIL     {one.sample} by {one.model}: {label}" for label in one.labels if not label.fits]
    shown.append(f"versions made with {'; '.join(other)}" if other else "versions the same as where it was made")
    return Outcome([*shown, f"FAIL     {verdict.package.label}: do not use it on this machine"], ModelError.exit_code)


def describe(path: Path) -> Outcome:
    """What a package says of itself.

    Raises:
        ModelError: the package is refused.
    """
    found = named_package(path)
    document = found.document
    card = document["card"]
    shown: list[Any] = [f"{found.label}  {card['title']}", card["summary"], f"intended use: {card['intended_use']}"]
    shown += [*standing(document), *(f"WARNING  {line}" for line in warnings(document))]
    for heading, columns, rows in tables(document):
        table = Table(*columns, title=heading, title_justify="left")
        for row in rows:
            table.add_row(*row)
        shown.append(table)
    lacking = missing(document)
    shown += _lines(found)
    shown.append(f"missing: {', '.join(lacking)}" if lacking else "missing: nothing")
    return Outcome(shown)


def _lines(found: Package) -> list[str]:
    document = found.document
    licences = ", ".join(f"{what} {told['id']}" for what, told in document["licences"].items())
    made = ", ".join(f"{name} {version}" for name, version in document["made_with"].items())
    return [
        f"authors: {', '.join(document['card']['authors'])}",
        f"licences: {licences}",
        f"models: {', '.join(document['models'])}; samples: {len(document['samples'])}; id {document['id']}",
        f"made with: {made}",
        f"data fingerprint: {document['provenance']['fingerprint_sha256'] or 'missing'}",
    ]


def _table(verdict: Verdict) -> Table:
    table = Table("model", "sample", "label", "Dice", "voxels that differ", "of")
    for one in verdict.compared:
        for label in one.labels:
            table.add_row(one.model, one.sample, label.label, f"{label.dice:.4f}", str(label.voxels), str(label.expected))
    return table
