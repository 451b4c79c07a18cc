"""Jobs as clients are told of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from segpipe.server.models import NOT_FOR_DIAGNOSIS
from segpipe.server.service import Service
from segpipe.server.store import Job


def job_to_json(service: Service, job: Job) -> dict[str, Any]:
    """How far a job is, or what became of it, and which model it is of: that which made it, whichever is served now."""
    progress = service.progress(job)
    address = f"/v1/jobs/{job.id}"
    results = {format: f"{address}/results/{format}" for format in ("nifti", "json", *job.results)} if job.state == "done" else {}
    end = job.ended if job.ended is not None else datetime.now(UTC).timestamp()
    return {
        "id": job.id,
        "model": job.model,
        "version": job.version,
        "model_sha256": job.sha256 or None,
        "name": job.name,
        "state": job.state,
        "position": service.position(job) if job.state == "queued" else None,
        "progress": round(progress.share, 4),
        "stage": progress.stage,
        "tta": job.tta,
        "created": _time(job.created),
        "started": _time(job.started),
        "ended": _time(job.ended),
        "seconds": round(max(0.0, end - job.started), 3) if job.started is not None else None,
        "error": job.error or None,
        "warnings": list(job.warnings),
        "volumes": list(job.volumes),
        "results": results,
        "image": f"{address}/image",
        "not_for_diagnosis": NOT_FOR_DIAGNOSIS,
    }


def summary_to_json(job: Job) -> dict[str, Any]:
    """The result `json` of a job that is done: volumes, and what made them."""
    return {
        "id": job.id,
        "name": job.name,
        "model": job.model,
        "version": job.version,
        "model_sha256": job.sha256 or None,
        "tta": job.tta,
        "volumes": list(job.volumes),
        "warnings": list(job.warnings),
        "not_for_diagnosis": NOT_FOR_DIAGNOSIS,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
