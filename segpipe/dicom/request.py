"""A stack as a short plain value that travels to another process, and the stack read from it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from segpipe.dicom.channels import with_channel
from segpipe.dicom.files import open_file, place_of
from segpipe.dicom.listing import read_all
from segpipe.dicom.policy import Policy, parse_policy
from segpipe.dicom.stack import Stack, group
from segpipe.dicom.volume import Scan, read_stack
from segpipe.errors import DataError
from segpipe.geometry.grid import Grid

_HASH_BYTES = 16


@dataclass(frozen=True)
class Slices:
    """Which slices make a scan, and what may be done with them.

    Attributes:
        name: of the stack.
        planes: file (or member of an archive) and number of the frame in it.
        policy: as `Policy.to_text` tells it.
        others: the further channels of the same examination, in their order.
    """

    name: str
    planes: tuple[tuple[Path, int], ...]
    policy: str = ""
    others: tuple[Slices, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Each file once, those of further channels last."""
        return tuple(dict.fromkeys((*self.own_files, *(path for other in self.others for path in other.files))))

    @property
    def own_files(self) -> tuple[Path, ...]:
        """Each file of the first channel once."""
        return tuple(dict.fromkeys(path for path, _ in self.planes))

    @property
    def places(self) -> tuple[Path, ...]:
        """The files on disk: an archive instead of its members."""
        return tuple(dict.fromkeys(map(place_of, self.files)))

    def absolute(self) -> Slices:
        """The same with paths that count from anywhere."""
        planes = tuple((path.absolute(), frame) for path, frame in self.planes)
        return replace(self, planes=planes, others=tuple(other.absolute() for other in self.others))

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        planes = [[str(path), frame] for path, frame in self.planes]
        others = {"others": [other.to_json() for other in self.others]} if self.others else {}
        return {"name": self.name, "planes": planes, "policy": self.policy, **others}


def slices_from_json(value: dict[str, Any] | None) -> Slices | None:
    """What `Slices.to_json` gave."""
    if value is None:
        return None
    others = tuple(found for other in value.get("others", ()) if (found := slices_from_json(other)) is not None)
    return Slices(value["name"], tuple((Path(path), int(frame)) for path, frame in value["planes"]), value["policy"], others)


def slices_of(stack: Stack, policy: Policy) -> Slices:
    """The request for a stack."""
    return Slices(stack.name, tuple((plane.path, plane.frame) for plane in stack.planes), policy.to_text())


def read_slices(slices: Slices) -> Scan:
    """Read, order and judge them again, from the files as they are now.

    Raises:
        DataError: see `read_stack`; or the files are no longer those of one stack.
    """
    return read_examination(slices)[1]


def read_examination(slices: Slices) -> tuple[Stack, Scan]:
    """As `read_slices`, with the stack of the first channel.

    Raises:
        DataError, GeometryError: as `read_slices`; or a channel has no place in the first one's frame of reference.
    """
    stack = stack_of(slices)
    scan = read_stack(stack, parse_policy([slices.policy]))
    modalities = [stack.first.modality]
    for other in slices.others:
        further = stack_of(other)
        modalities.append(further.first.modality)
        scan = with_channel(scan, stack, read_stack(further, parse_policy([other.policy])), further)
    return stack, replace(scan, modalities=tuple(modalities))


def grid_of(slices: Slices) -> Grid:
    """Where a label map of theirs lies, from headers and, where they are to be blended, from the slices.

    Raises:
        DataError: as `read_slices`.
    """
    layout = stack_of(slices).layout
    if layout is None or layout.grid is None:
        return read_slices(slices).grid
    return layout.grid


def hash_of(slices: Slices) -> str:
    """BLAKE2b of the files' bytes in their order, and of what is asked for; 32 hexadecimal digits a channel.

    Raises:
        DataError: one cannot be read.
    """
    total = hashlib.blake2b(repr((slices.policy, [frame for _, frame in slices.planes])).encode(), digest_size=_HASH_BYTES)
    for path in slices.own_files:
        try:
            with open_file(path) as file:
                total.update(hashlib.file_digest(cast(Any, file), hashlib.sha256).digest())
        except Exception as error:  # an archive may be damaged in many ways
            raise DataError(f"{path}: cannot be read ({error}); must be there as it was found: copy or export it again") from error
    return "+".join([total.hexdigest(), *map(hash_of, slices.others)])


def stack_of(slices: Slices) -> Stack:
    """The stack again, from headers.

    Raises:
        DataError: the files are no longer those of one stack.
    """
    wanted = set(slices.planes)
    planes = [plane for plane in read_all(slices.own_files) if (plane.path, plane.frame) in wanted]
    stacks, left = group(planes)
    if len(stacks) != 1 or left or len(planes) != len(wanted):
        raise DataError(f"series {slices.name}: has changed since it was found; must stay as it is: run the command again")
    return replace(stacks[0], name=slices.name)
