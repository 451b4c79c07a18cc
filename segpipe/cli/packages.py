"""The commands for packages and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.computing import Device
from segpipe.cli.option_values import in_range
from segpipe.cli.output import guarded
from segpipe.cli.usage import CommandList
from segpipe.commands.outcome import Outcome

Signer = Annotated[str, typer.Option(metavar="KEY", help="Public key of minisign, or its file: refuse what it has not signed.")]


def package(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_MODEL", help="Folder of a training, or its model.ts.")],
    card: Annotated[Path, typer.Option(metavar="FILE", help="What people know of the model, YAML.")],
    samples: Annotated[Path, typer.Option(metavar="DIR", help="Scans that may go with it; not DICOM.")],
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="Folder or .zip to write.", show_default="NAME-VERSION.zip")] = None,
    device: Device = "auto",
) -> Outcome:
    """Make a package that proves itself: model, card, licences, and samples with the label maps that are expected of them.

    \b
    segpipe package runs/prostate --card card.yaml --samples samples/
    segpipe package runs/prostate --card card.yaml --samples samples/ --out prostate-vnet
    segpipe package model.ts --card card.yaml --samples scan.nii.gz

    Of a run folder, model.pt2 and model.onnx beside model.ts go with it. It is a MONAI Bundle, too.
    """
    from segpipe.commands.package import package as run

    return run(source, card, samples, out, device)


def verify(
    path: Annotated[Path, typer.Argument(metavar="PACKAGE", help="Folder, .zip, or NAME@VERSION that was pulled.")],
    device: Device = "auto",
    key: Signer = "",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Refuse a network that takes longer for its samples.")] = 1800.0,
    memory_gb: Annotated[float, typer.Option(metavar="GB", help="Refuse one that takes more memory; 0: what is free now.")] = 0.0,
) -> Outcome:
    """Check a package, then segment its samples on this machine and compare: PASS, or what differs.

    \b
    segpipe verify prostate-vnet-1.2.zip
    segpipe verify prostate-vnet-1.2.zip --device cuda
    segpipe verify prostate-vnet-1.2.zip --key minisign.pub

    Exit code 5 when it is refused or differs. Nothing of it is run but the graph of its network, in a process of its own.
    """
    from segpipe.commands.package import verify as run

    in_range("--timeout", timeout, 1.0, 1e7)
    in_range("--memory-gb", memory_gb, 0.0, 1e5)
    return run(path, device, key, timeout, memory_gb)


def describe(path: Annotated[Path, typer.Argument(metavar="PACKAGE", help="Folder, .zip, or NAME@VERSION that was pulled.")]) -> Outcome:
    """Show what a package says of itself: how it was trained and validated, labels, scores, valid input, licences, what its card lacks.

    \b
    segpipe describe prostate-vnet-1.2.zip
    segpipe describe prostate-vnet@1.2
    """
    from segpipe.commands.package import describe as run

    return run(path)


hub = typer.Typer(
    cls=CommandList,
    help="""Packages by name and version: a hub is a folder, or that folder on a web server.

    \b
    segpipe hub add hub/ prostate-vnet-1.2.zip
    segpipe hub list hub/
    segpipe hub pull hub/ prostate-vnet@1.2
    """,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Hub = Annotated[str, typer.Argument(metavar="HUB", help="Folder, or http(s) address.")]


@hub.command("list")
@guarded
def hub_list(where: Hub) -> Outcome:
    """Show what a hub holds.

    \b
    segpipe hub list hub/
    segpipe hub list https://models.hospital.org/hub
    """
    from segpipe.commands.hub import hub_list as run

    return run(where)


@hub.command("add")
@guarded
def hub_add(
    where: Annotated[Path, typer.Argument(metavar="HUB", help="Folder, made where it is not there.")],
    path: Annotated[Path, typer.Argument(metavar="PACKAGE", help="Folder or .zip.")],
    sign: Annotated[Path | None, typer.Option(metavar="FILE", help="Secret key of minisign to sign it with.")] = None,
) -> Outcome:
    """Put a package into a hub; a version that is there is never replaced.

    \b
    segpipe hub add hub/ prostate-vnet-1.2.zip
    segpipe hub add hub/ prostate-vnet-1.2.zip --sign ~/.minisign/minisign.key

    A signature that lies beside PACKAGE (minisign -Sm PACKAGE) goes with it.
    """
    from segpipe.commands.hub import hub_add as run

    return run(where, path, sign)


@hub.command("pull")
@guarded
def hub_pull(
    where: Hub,
    wanted: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="Without a version: the latest.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help=".zip to write.", show_default="NAME-VERSION.zip")] = None,
    key: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            envvar="SEGPIPE_HUB_KEY",
            help="Public key of minisign, or its file: refuse what it has not signed.",
            show_default=False,
        ),
    ] = "",
) -> Outcome:
    """Fetch a package, checked by its SHA-256 and looked through; from then on it is known by NAME@VERSION.

    \b
    segpipe hub pull https://models.hospital.org/hub prostate-vnet@1.2
    segpipe hub pull https://models.hospital.org/hub prostate-vnet --key minisign.pub
    segpipe predict prostate-vnet@1.2 scans/ out/
    """
    from segpipe.commands.hub import hub_pull as run

    return run(where, wanted, out, key)
