"""What a program of somebody else's needs of segpipe, and what the command itself is made of: five names, all to be had from `segpipe`.

import segpipe

model = segpipe.load_model("prostate.ts")
rows = segpipe.predict_folder(model, "scans", "out")
prediction = segpipe.predict_file(model, "scan.nii.gz", "labels.nii.gz")
prediction = segpipe.predict_volume(model, segpipe.Volume.of(array, affine))
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from segpipe.errors import ConfigError
from segpipe.geometry.grid import Volume
from segpipe.inference import folder
from segpipe.inference.computing import Wanted, choose_computing
from segpipe.inference.predictor import Precision, Predictor, mirrorings
from segpipe.inference.restoration import Prediction
from segpipe.inference.table import Row
from segpipe.inference.task import FolderOptions, check_kind
from segpipe.io.read import read_channels, read_volume
from segpipe.io.write import write_label_map
from segpipe.package.device import choose_device
from segpipe.package.model_file import load_models
from segpipe.package.runtime import Runtime

log = logging.getLogger(__name__)

Source = str | Path


def load_model(
    paths: Source | Sequence[Source],
    device: str = "auto",
    *,
    overlap: float = 0.5,
    batch: int = 0,
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    tta: bool = False,
    memory_gb: float = 0.0,
    threads: int = 0,
    compile: bool = False,
    sha256: Sequence[str] = (),
) -> Predictor:
    """A model that is ready to segment, or an ensemble of several.

    Args:
        paths: model file, or a list of files; packages are known to `segpipe.load_model`.
        device: auto (a GPU where there is one), cpu, cuda or cuda:N.
        overlap: of neighbouring windows, as a share of the window, 0 to below 1.
        batch: windows a forward pass; 0: by the size of the window.
        precision: fp32, bf16, or auto (see `choose_computing`).
        runtime: torch, openvino, or auto.
        tta: average over the mirrorings that the plan allows; said where it allows none.
        memory_gb: most memory of the process; 0: no limit.
        threads: of OpenVINO; 0: as many as torch has.
        compile: by torch.compile where that gives the same; takes about a minute, and a C++ compiler.
        sha256: that each file must have, empty: any; none: all may have any.

    Raises:
        ModelError, ConfigError: see `load_models`, `choose_device`, `Predictor`, `choose_computing`.
    """
    if Path(device).suffix and Path(device).is_file():
        raise ConfigError(f"device is {device}, a file; must be auto, cpu, cuda or cuda:N: several model files are given as one list")
    where = choose_device(str(device))
    each = [paths] if isinstance(paths, (str, Path)) else list(paths)
    hashes = tuple(sha256) or ("",) * len(each)
    models = [model for path, digest in zip(each, hashes, strict=True) for model in load_models(Path(path), where, digest)]
    if tta and not any(mirrorings(model.plan) for model in models):
        log.warning("nothing is mirrored: the plan of the model allows it along no axis, because left and right differ or by its settings")
    made = partial(Predictor, device=where, overlap=overlap, batch=batch, flips=tta, memory_gb=memory_gb)
    made(models)  # refuses models that do not fit together before one is converted
    computing = choose_computing(models, where, Wanted(runtime, precision, threads, compile))
    return made(computing.models, precision="bf16" if computing.bf16 else "fp32")


def predict_volume(model: Predictor, volume: Volume, probabilities: bool = False) -> Prediction:
    """The label map of a volume in memory, on its own grid; see `Predictor.predict`.

    Raises:
        ConfigError: an array alone, which does not say where its voxels lie.
    """
    if not isinstance(volume, Volume):
        raise ConfigError(f"predict_volume was given a {type(volume).__name__}; must be a Volume: segpipe.Volume.of(array, affine)")
    return model.predict(volume, probabilities)


def predict_file(model: Predictor, source: Source | Sequence[Source], target: Source) -> Prediction:
    """Segment one scan and write its label map.

    Args:
        source: the scan; one file a channel where there are several.
        target: label map to write, in the format of its name; a file that is there is replaced.

    Raises:
        DataError, GeometryError: the scan cannot be read or segmented, or is a picture where volumes are wanted, or the other way round.
        ConfigError: the label map cannot be written, or would replace the scan.
    """
    images, out = [Path(source)] if isinstance(source, (str, Path)) else [Path(one) for one in source], Path(target)
    if out.exists() and any(image.exists() and out.samefile(image) for image in images):
        raise ConfigError(f"{target} is the scan, and would be overwritten: choose another file")
    check_kind(images[0], model.plan.pictures)
    volume = read_volume(images[0]) if len(images) == 1 else read_channels(images)
    prediction = model.predict(volume)
    unlike = model.preparation.unlike(volume)
    if not model.plan.pictures:
        ml = volume.grid.voxel_volume_ml
        unlike += model.odd_volumes({name: count * ml for name, count in prediction.voxels.items()})
    if unlike:
        log.warning("%s is unlike the training scans, look at its label map: %s", images[0], "; ".join(unlike))
    write_label_map(out, prediction.labels, volume.grid)
    return prediction


def predict_folder(model: Predictor, source: Source, out: Source, options: FolderOptions | None = None) -> list[Row]:
    """Segment a scan, or every scan below a folder, in this process; see `folder.predict_folder`."""
    return folder.predict_folder(model, Path(source), Path(out), options or FolderOptions())
