"""Several series of one examination as the channels of one volume, and which series is which channel."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.identity import why_two_patients
from segpipe.dicom.plane import Plane
from segpipe.dicom.stack import Stack
from segpipe.dicom.volume import Scan
from segpipe.errors import ConfigError, DataError, GeometryError
from segpipe.geometry.grid import Grid, Volume

_OFF = 0.01
_SHOWN = 3
_NUMBERS: dict[str, Callable[[Plane], float | None]] = {
    "b": lambda plane: plane.b_value,
    "te": lambda plane: plane.echo,
    "number": lambda plane: plane.number,
}
_KEYS = ("description", "modality", "type", *_NUMBERS)


@dataclass(frozen=True)
class Wanted:
    """A channel, and which series it is.

    Attributes:
        name: of the channel.
        which: alternatives joined by `|`; each of terms joined by `;`, all of which must hold: a pattern of the SeriesDescription
            (`t2*tra*`, or `description=t2*tra*`), `modality=MR`, `type=ADC` (a word of the ImageType), `b=1400` (s/mm2), `te=90`
            (ms), `number=4`. Letter case does not count.

    Raises:
        ConfigError: a term that cannot be understood.
    """

    name: str
    which: str

    def __post_init__(self) -> None:
        for terms in self._alternatives():
            for key, text in terms:
                if not text or (key in _NUMBERS and not _is_number(text)):
                    raise ConfigError(
                        f"the series of the channel {self.name} are given as {self.which!r}; must be a pattern of the SeriesDescription, "
                        f"or terms such as modality=MR; b=1400, joined by ; (known: {', '.join(_KEYS)}), alternatives by |"
                    )

    def _alternatives(self) -> list[list[tuple[str, str]]]:
        return [[_term(term) for term in part.split(";")] for part in self.which.split("|")]

    def fits(self, stack: Stack) -> bool:
        """Whether a stack may be this channel."""
        return any(all(_fits(stack.first, key, text) for key, text in terms) for terms in self._alternatives())


def parse_wanted(words: Iterable[str]) -> tuple[Wanted, ...]:
    """Channels from `CHANNEL=WHICH` words.

    Raises:
        ConfigError: a word of another form, or see `Wanted`.
    """
    found = []
    for word in words:
        name, equals, which = word.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"the series {word!r} is not known; must be CHANNEL=WHICH, such as 'T2=t2*tra*' or 'ADC=type=ADC'")
        found.append(Wanted(name.strip(), which))
    return tuple(found)


def channels_of(stack: Stack, stacks: Sequence[Stack], wanted: Sequence[Wanted]) -> tuple[Stack, ...]:
    """The series of each channel in the study of a stack, which is one of them; the stack alone where nothing is wanted.

    Raises:
        DataError: none of the study fits a channel, or several do, and not one of them alone has the stack's grid.
    """
    if not wanted:
        return (stack,)
    return tuple(_channel_of(stack, stacks, one) for one in wanted)


def _channel_of(stack: Stack, stacks: Sequence[Stack], wanted: Wanted) -> Stack:
    fitting = [other for other in stacks if other.study == stack.study and wanted.fits(other)]
    if any(other is stack for other in fitting):
        return stack
    if len(fitting) > 1:
        fitting = [other for other in fitting if _beside(other, stack)] or fitting
    if len(fitting) == 1:
        return fitting[0]
    many = (
        f"{len(fitting)} series of the study ({', '.join(other.name for other in fitting[:_SHOWN])}) fit" if fitting else "no series fits"
    )
    raise DataError(f"{many} the channel {wanted.name!r} beside {stack.name}; must be one: say more exactly which series it is")


def _beside(one: Stack, other: Stack) -> bool:
    """Whether two stacks have one grid."""
    if one.layout is None or other.layout is None or one.layout.grid is None or other.layout.grid is None:
        return False
    return one.first.frame_of_reference == other.first.frame_of_reference and one.layout.grid.same_as(other.layout.grid)


def _term(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    known = bool(equals) and key.strip().lower() in _KEYS
    return (key.strip().lower(), value.strip()) if known else ("description", text.strip())


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _fits(plane: Plane, key: str, text: str) -> bool:
    if key in _NUMBERS:
        value = _NUMBERS[key](plane)
        return value is not None and abs(value - float(text)) < _OFF
    if key == "type":
        return any(fnmatch.fnmatchcase(word.lower(), text.lower()) for word in plane.image_type)
    return fnmatch.fnmatchcase((plane.modality if key == "modality" else plane.description).lower(), text.lower())


def with_channel(scan: Scan, stack: Stack, other: Scan, further: Stack) -> Scan:
    """The scan with one channel more, interpolated onto its grid where it lies on another: linearly, and 0 shares beyond it.

    Raises:
        GeometryError: the two have no frame of reference in common, so that nothing tells how they lie to each other.
        DataError: they are of two patients.
    """
    files = why_two_patients([stack.first, further.first])
    if files:
        raise DataError(f"series {stack.name} with {further.name} as a channel {files}")
    same = scan.volume.grid.same_as(other.volume.grid)
    if not stack.first.frame_of_reference or stack.first.frame_of_reference != further.first.frame_of_reference:
        raise GeometryError(
            f"series {further.name}: has another FrameOfReferenceUID than {stack.name}, the first channel; channels must share one: "
            "register them, and export them again"
        )
    added = other.volume.array if same else interpolated(other.volume, scan.volume.grid)
    array = np.concatenate([scan.volume.array, added])
    notes = [*other.notes, *([] if same else [f"{further.name} is interpolated onto the grid of {stack.name}, the first channel"])]
    return replace(scan, volume=Volume(array, scan.volume.grid), notes=(*scan.notes, *notes))


def interpolated(volume: Volume, grid: Grid) -> NDArray[np.float32]:
    """A volume (1, I, J, K) at the voxels of another grid: linear, beyond it the volume's lowest value. float32."""
    from scipy import ndimage

    onto = np.linalg.inv(volume.grid.affine) @ grid.affine
    low = float(volume.array.min())
    values = volume.array[0].astype(np.float32)
    result = np.empty((1, *grid.shape), dtype=np.float32)
    plane = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape[:2]), indexing="ij"))  # (2, I, J)
    for k in range(grid.shape[2]):
        at = np.tensordot(onto[:3, :2], plane, axes=1) + (onto[:3, 2] * k + onto[:3, 3])[:, None, None]  # (3, I, J)
        shape = np.array(volume.grid.shape)[:, None, None]
        inside = ((at >= -0.5) & (at <= shape - 0.5)).all(axis=0)
        found = ndimage.map_coordinates(values, np.clip(at, 0, shape - 1), order=1, mode="nearest")
        result[0, ..., k] = np.where(inside, found, low)
    return result
