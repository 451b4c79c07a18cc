"""What a prediction is asked for: places and format, refused before work goes into what cannot be written."""

from __future__ import annotations

from pathlib import Path

from segpipe.dicom.writing.highdicom_library import check_highdicom
from segpipe.dicom.writing.wanted import KINDS, Kind
from segpipe.errors import ConfigError, DataError
from segpipe.inference.ledger import Ledger
from segpipe.io.atomic import check_folder
from segpipe.io.find import PICTURES, SUFFIXES, split_name
from segpipe.io.write import label_suffix

_ALIASES = {"nifti": "nii.gz"}


def check_request(source: Path, out: Path, name: str) -> None:
    """Refuse what cannot be done whatever the model is.

    Args:
        name: format of the label maps as the user wrote it; empty: each input's own.

    Raises:
        DataError: `source` is missing.
        ConfigError: `out` is the input folder or a file, or cannot be written, or holds another program's table; unknown format, or
            one that needs a package which is not installed.
    """
    format_suffix(name)
    if dicom_kinds(name):
        check_highdicom()
    _check_places(source, out)
    check_folder(out)
    Ledger(out).close()


def format_suffix(name: str) -> str:
    """`nii.gz`, `.nii.gz` or `nifti` -> `.nii.gz`, also among kinds of DICOM objects; empty where no format of label maps is named.

    Raises:
        ConfigError: unknown, or with loss, or two of them.
    """
    words = [_ALIASES.get(word, word) for word in _words(name) if word not in KINDS]
    if len(set(words)) > 1:
        raise ConfigError(f"--format: names {' and '.join(words)}; label maps have one format, give one of them")
    suffix = f".{words[0]}" if words else ""
    if suffix and (suffix not in SUFFIXES or label_suffix(suffix) != suffix):
        allowed = ", ".join(known.lstrip(".") for known in SUFFIXES if label_suffix(known) == known)
        raise ConfigError(f"--format is {name!r}; must be one of {allowed}, and for DICOM series also {', '.join(KINDS)}")
    return suffix


def dicom_kinds(name: str) -> tuple[Kind, ...]:
    """The kinds of DICOM objects that `--format` names, in the order of `KINDS`."""
    words = _words(name)
    return tuple(kind for kind in KINDS if kind in words)


def _words(name: str) -> list[str]:
    return [word.strip().lower().lstrip(".") for word in name.split(",") if word.strip()]


def check_format(suffix: str, pictures: bool) -> None:
    """Refuse pictures for volumes: they hold neither slices nor millimetres. The label map of a picture goes into any format.

    Args:
        pictures: whether the model is for pictures.

    Raises:
        ConfigError: no label map of the model can be written so.
    """
    if suffix in PICTURES and not pictures:
        raise ConfigError(
            f"--format is {suffix[1:]}, a picture; the model was trained on volumes, whose label maps no picture can hold: "
            "give nii.gz, nrrd or mha, or leave --format out"
        )


def _check_places(source: Path, out: Path) -> None:
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; give a scan, or a folder with scans")
    if source.is_dir() and source.resolve() == out.resolve():
        raise ConfigError(f"{out} is the input folder, whose scans would be overwritten: choose another output folder")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; must be a folder for the label maps")
    if not out.exists() and split_name(out)[1].lower() in SUFFIXES:
        raise ConfigError(f"{out} names a file; must be a folder for the label maps (use --format for their format)")
