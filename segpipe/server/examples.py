"""What the description of the addresses (`/openapi.json`) shows: a model, a job, and the form in which a scan is sent."""

from __future__ import annotations

from typing import Any

STATUS = {
    400: "What was sent is not what it must be.",
    401: "The token is missing or wrong.",
    403: "A page of another server asks.",
    404: "There is no such thing.",
    408: "Nothing came for too long.",
    409: "It is not the moment for it.",
    413: "More than this server takes.",
    421: "Another host is asked for.",
    422: "A value that is none.",
    429: "Too many jobs wait.",
    503: "Too much is asked for at the moment, or the server does not work.",
    507: "The disk is full.",
}
MODEL: dict[str, Any] = {
    "id": "prostate-zones",
    "name": "Zones of the prostate",
    "version": "1.0",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "description": "Finds the peripheral and the transition zone in T2 and ADC.",
    "channels": ["T2", "ADC"],
    "dims": 3,
    "pictures": False,
    "labels": [
        {"value": 0, "name": "background", "colour": [0, 0, 0], "codes": []},
        {
            "value": 1,
            "name": "PZ",
            "colour": [230, 159, 0],
            "codes": [{"value": "399384005", "scheme": "SCT", "meaning": "Peripheral zone of prostate"}],
        },
    ],
    "envelope": {"modality": "MR", "body_part": "Prostate", "spacing_mm": {"lowest": [0.5, 0.5, 3.0], "highest": [0.7, 0.7, 4.0]}},
    "licences": {"code": "Apache-2.0", "weights": "CC-BY-SA-4.0", "samples": "CC0-1.0"},
    "card": "/v1/models/prostate-zones/card",
    "samples": [
        {
            "name": "sample-01",
            "files": ["sample-01_0000.nii.gz", "sample-01_0001.nii.gz"],
            "url": "/v1/models/prostate-zones/samples/sample-01_0000.nii.gz",
            "urls": ["/v1/models/prostate-zones/samples/sample-01_0000.nii.gz", "/v1/models/prostate-zones/samples/sample-01_0001.nii.gz"],
        }
    ],
    "not_for_diagnosis": "Computed by a program, not checked by anybody: not for diagnosis.",
}
_ID = "5b0c7f0e6f3a4c0b9d1e2f3a4b5c6d7e"
JOB: dict[str, Any] = {
    "id": _ID,
    "model": "prostate-zones",
    "version": "1.0",
    "model_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "name": "scan.nii.gz",
    "state": "done",
    "position": None,
    "progress": 1.0,
    "stage": "done",
    "tta": False,
    "created": "2026-11-26T15:00:00.000Z",
    "started": "2026-11-26T15:00:00.010Z",
    "ended": "2026-11-26T15:00:02.500Z",
    "seconds": 2.49,
    "error": None,
    "warnings": ["spacing along z is 9 mm, in training 3 to 4 mm"],
    "volumes": [{"value": 1, "name": "PZ", "colour": [230, 159, 0], "ml": 21.4, "voxels": 18234}],
    "results": {"nifti": f"/v1/jobs/{_ID}/results/nifti", "json": f"/v1/jobs/{_ID}/results/json"},
    "image": f"/v1/jobs/{_ID}/image",
    "not_for_diagnosis": "Computed by a program, not checked by anybody: not for diagnosis.",
}
JOB_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "model": {"type": "string", "description": "Id of the model; may be left out where one is served."},
                    "files": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "One scan (NIfTI, NRRD, MHA, a picture), or one file a channel in the model's order, or one zip of "
                        "a DICOM series.",
                    },
                    "channels": {"type": "string", "description": 'JSON: which channel each file is, `["ADC", "T2"]`.'},
                    "sample": {"type": "string", "description": "Name of a sample of the model, instead of files."},
                    "tta": {"type": "boolean", "default": False, "description": "Average over mirrorings: slower."},
                },
            },
            "example": {"model": "prostate-zones", "sample": "sample-01"},
        }
    },
}


def of(example: dict[str, Any]) -> dict[str, Any]:
    """An answer in JSON with its example."""
    return {"description": "As asked for.", "content": {"application/json": {"example": example}}}
