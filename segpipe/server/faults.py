"""What a client is told that went wrong: a status and one line, `{"error": "..."}`; never a path of this machine, never a traceback."""

from __future__ import annotations

import errno
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from segpipe.errors import ConfigError, SegpipeError

log = logging.getLogger(__name__)

_LONGEST = 600
_HEADERS: dict[int, dict[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": "10"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "10"},
}
_PATTERNS = {
    "id": "is no id of a job; must be its 32 digits and letters a to f: GET /v1/jobs lists those that there are",
    "file": "is no name of a label map; must be an id of a job and .nii.gz, as `prediction` of an answer has it",
}
"""Of parameters that have one."""
_KINDS = {"int_": "is no whole number; must be one from 0: 0, 1, 2", "bool_": "is no yes or no; must be true or false"}
"""By the beginning of pydantic's kinds of errors."""
_UNKNOWN = "is not what it must be: /openapi.json says how"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class RequestError(SegpipeError):
    """A request that is not served.

    Args:
        status: of HTTP, 400 or above.
        text: one line: what is, what must be, what to do.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def refused(text: str) -> RequestError:
    """What was sent is not what it must be (400)."""
    return RequestError(400, text)


def missing(text: str) -> RequestError:
    """There is no such thing (404)."""
    return RequestError(404, text)


def too_large(text: str) -> RequestError:
    """More than this server takes (413)."""
    return RequestError(413, text)


def not_now(text: str) -> RequestError:
    """It is not the moment for it (409)."""
    return RequestError(409, text)


def broken(text: str) -> RequestError:
    """The server does not work (503)."""
    return RequestError(503, text)


def no_room() -> RequestError:
    """The disk is full (507)."""
    return RequestError(507, "the server's disk is full: nothing was taken; tell who runs it, and send the scan again later")


def is_no_room(error: OSError) -> bool:
    """Whether the disk, or the part of it that is ours, is full."""
    return error.errno in _NO_ROOM


def answer(status: int, text: str) -> JSONResponse:
    """One line as it is sent."""
    line = " ".join(text.split())
    headers = _HEADERS.get(status)
    return JSONResponse({"error": line if len(line) <= _LONGEST else line[:_LONGEST] + " ..."}, status, headers)


def add_faults(app: FastAPI) -> None:
    """Have every error of `app` told in this way."""
    app.add_exception_handler(SegpipeError, _told)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(OSError, _of_disk)
    app.add_exception_handler(Exception, _unexpected)


def _told(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, RequestError):
        return answer(error.status, str(error))
    if isinstance(error, ConfigError):  # of the server's own files: nothing that a client sends makes one
        log.error("%s", error)
        return answer(500, "the server cannot use its own files: tell who runs it, its log says why")
    return answer(400, str(error).replace(str(request.app.state.service.settings.data), "the server's folder"))


def _of_http(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 400
    detail = str(error.detail) if isinstance(error, HTTPException) else "refused"
    if status == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = "no such address; /openapi.json lists those that there are"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = "this address does not take this method; /openapi.json lists those that it takes"
    response = answer(status, detail)
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def _invalid(request: Request, error: Exception) -> JSONResponse:
    """A parameter that is not of its type: which one, and what it must be; not what was sent, which may be of a patient."""
    if not isinstance(error, RequestValidationError) or not error.errors():
        return answer(422, "the request cannot be understood; /openapi.json says how it must be")
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"][1:])) or str(first["loc"][0])
    return answer(422, f"{name}: {_in_words(name, str(first['type']), first.get('ctx', {}))}")


def _in_words(name: str, kind: str, told: dict[str, Any]) -> str:
    """What is wrong with a parameter, and what to do.

    Args:
        kind: of pydantic's error, told: what is said beside it.
    """
    if kind == "missing":
        return "is missing; must be given: /openapi.json says how"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(name, _UNKNOWN)
    if kind == "string_too_long":
        return f"is longer than {told['max_length']} characters, as no name here is; must be one that the server told: check the address"
    return next((words for start, words in _KINDS.items() if kind.startswith(start)), _UNKNOWN)


def _of_disk(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OSError) and is_no_room(error):
        return _told(request, no_room())
    return _unexpected(request, error)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s: unexpected %s", request.method, request.scope.get("route_path", "a request"), type(error).__name__)
    log.debug("what was raised", exc_info=error)
    return answer(500, f"the server has a fault ({type(error).__name__}): tell who runs it, its log says more with --debug")
