"""The models that are served: what a client is told of each, read without loading a network."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segpipe.bundle.facts import envelope_of, labels_of
from segpipe.bundle.layout import LONGEST_NAME, MODEL, PAGE
from segpipe.bundle.load import find_model
from segpipe.bundle.open import Package
from segpipe.bundle.unpack import folder_of
from segpipe.errors import ConfigError, ModelError
from segpipe.package.archive import checked_records
from segpipe.plan.plan import Plan, plan_from_dict
from segpipe.server.store import Job

NOT_FOR_DIAGNOSIS = "Computed by a program, not checked by anybody: not for diagnosis. Look at it beside the scan before you use it."
_TASK = "model"
_DOCUMENT = "/extra/segpipe.json"
_ONNX = ".onnx"


@dataclass(frozen=True)
class Sample:
    """A scan that comes with a package.

    Attributes:
        files: one a channel.
    """

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Served:
    """One model.

    Attributes:
        id: what clients call it.
        version: of the package; of a bare model file the beginning of its SHA-256.
        file, sha256: its model file, and the hash of that.
        labels: value, name, colour and codes of each, the background first.
        package: its document; None: a bare model file, which tells less.
        folder: of the package.
    """

    id: str
    version: str
    file: Path
    sha256: str
    plan: Plan
    labels: tuple[dict[str, Any], ...]
    envelope: dict[str, Any]
    package: dict[str, Any] | None = None
    folder: Path | None = None
    samples: tuple[Sample, ...] = field(default=())

    @property
    def identity(self) -> tuple[str, str, str]:
        """What tells it from every other model: id, version and SHA-256, see `Job.identity`."""
        return self.id, self.version, self.sha256

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in their order."""
        return tuple(channel.name for channel in self.plan.channels)

    @property
    def series(self) -> tuple[tuple[str, str], ...]:
        """Which DICOM series is which channel, as the training was told; empty where one channel takes every series."""
        told = tuple((channel.name, channel.series) for channel in self.plan.channels if channel.series)
        return told if len(told) == len(self.plan.channels) > 1 else ()

    @property
    def pictures(self) -> bool:
        return self.plan.pictures

    @property
    def name(self) -> str:
        """For people."""
        return str(self.package["card"]["title"]) if self.package else self.plan.task or self.id

    @property
    def description(self) -> str:
        return str(self.package["card"]["summary"]) if self.package else f"A model file for the task {self.plan.task}; it tells no more."

    @property
    def card(self) -> Path | None:
        """Its page; None: it has none."""
        return self.folder / PAGE if self.folder is not None else None

    def to_json(self) -> dict[str, Any]:
        """As clients are told."""
        licences = {what: one["id"] for what, one in self.package["licences"].items()} if self.package else {}
        return {
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "description": self.description,
            "channels": list(self.channels),
            "dims": self.plan.dims,
            "pictures": self.pictures,
            "labels": [_label_to_json(label) for label in self.labels],
            "envelope": self.envelope,
            "licences": {what: licences.get(what) for what in ("code", "weights", "samples")},
            "card": f"/v1/models/{self.id}/card" if self.card else None,
            "samples": [_sample_to_json(self.id, sample) for sample in self.samples],
            "not_for_diagnosis": NOT_FOR_DIAGNOSIS,
        }


def _label_to_json(label: dict[str, Any]) -> dict[str, Any]:
    codes = [label[key] for key in ("category", "type", "modifier") if label.get(key)]
    return {"value": label["value"], "name": label["name"], "colour": list(label["colour"]), "codes": codes}


def _sample_to_json(model: str, sample: Sample) -> dict[str, Any]:
    address = f"/v1/models/{model}/samples"
    files = [path.name for path in sample.files]
    return {"name": sample.name, "files": files, "url": f"{address}/{files[0]}", "urls": [f"{address}/{name}" for name in files]}


def change_of(served: Served | None, job: Job) -> str:
    """What has become of the model of a job, if it is not `served`, the one that has its id now."""
    if served is None or served.version != job.version:
        return "which is not served any more"
    if not job.sha256:
        return "and it was not kept then which file that was"
    return f"and the file that is served as that now is another one (SHA-256 {served.sha256[:12]}, not {job.sha256[:12]})"


def read_models(paths: Sequence[Path]) -> dict[str, Served]:
    """Every model by its id; packages, also those given as `NAME@VERSION`, are looked through, and archives unpacked into the cache.

    Raises:
        ModelError: one is refused, or no model.
        ConfigError: two have one name, or the cache cannot be written.
    """
    found: dict[str, Served] = {}
    for path in paths:
        model = find_model(path)
        served = _of_file(model.path) if model.package is None else _of_package(model.package)
        if served.id in found:
            raise ConfigError(
                f"{path}: is called {served.id}, as {found[served.id].file} is; one server serves one of a name: leave one out"
            )
        found[served.id] = served
    return found


def _of_package(package: Package) -> Served:
    folder, document = folder_of(package), package.document
    plan = _plan(folder / MODEL, _document(folder / MODEL))
    samples = tuple(Sample(one["name"], tuple(folder / name for name in one["images"])) for one in document["samples"])
    labels, envelope, sha256 = tuple(document["labels"]), document["envelope"], document["files"][MODEL]["sha256"]
    return Served(document["name"], document["version"], folder / MODEL, sha256, plan, labels, envelope, document, folder, samples)


def _of_file(file: Path) -> Served:
    document = _document(file)
    plan = _plan(file, document)
    name = re.sub(r"[^a-z0-9]+", "-", plan.task.lower()).strip("-")[:LONGEST_NAME] or _TASK
    envelope = envelope_of(plan, document, None, "not told", "not told")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return Served(name, sha256[:12], file, sha256, plan, tuple(labels_of(plan)), envelope)


def _document(path: Path) -> dict[str, Any]:
    """What a model file says of itself; its network is not looked at, which the worker does that loads it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); must be a package or a model file, such as RUN/model.ts") from error
    if path.suffix == _ONNX:
        from segpipe.package.onnx_file import read_onnx  # with torch, which nothing else here needs

        text: bytes | str = read_onnx(data, "segpipe.json", path)
    else:
        texts = [content for name, content in checked_records(data, path).items() if name.endswith(_DOCUMENT)]
        if not texts:
            raise ModelError(f"{path} holds no segpipe.json, so it is not a segpipe model: give a file that `segpipe export` wrote")
        text = texts[0]
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{path}: its segpipe.json is not JSON: export the model again") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path}: its segpipe.json is no document: export the model again")
    return document


def _plan(path: Path, document: dict[str, Any]) -> Plan:
    """Of several networks the first one's, whose channels and labels are those of all."""
    parts = document.get("parts")
    told = parts[0] if isinstance(parts, list) and parts else document.get("plan", {})
    try:
        return plan_from_dict(told)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
