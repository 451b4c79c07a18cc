"""The server as an ASGI application: the guard before it, its addresses, and its errors in one form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from segpipe import __version__
from segpipe.server import modelhub, monailabel, site, v1
from segpipe.server.access import Guard, check_access
from segpipe.server.faults import add_faults, broken
from segpipe.server.metrics import Metrics
from segpipe.server.service import Service
from segpipe.server.settings import MOST_CONNECTIONS, ServerSettings
from segpipe.server.turns import Turns

_ROUTERS = (v1.router, modelhub.router, monailabel.router, site.router)
"""Each is given the service."""
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Frame-Options": "DENY"}


def build_app(settings: ServerSettings) -> FastAPI:
    """The application, whose work begins and ends with it; `app.state.service` is the `Service`.

    Raises:
        ConfigError, ModelError: see `check_access`, `Service`.
    """
    check_access(settings)
    service = Service(settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await run_in_threadpool(service.close)

    # no pages of the description: they would load programs from elsewhere
    app = FastAPI(title="segpipe", version=__version__, docs_url=None, redoc_url=None, lifespan=life)
    app.state.service = service
    add_faults(app)
    _add_state(app, service)
    for router in _ROUTERS:
        app.include_router(router(service))
    app.add_middleware(_Headers)
    if settings.origins:
        methods, words = ["GET", "POST", "PUT", "DELETE"], ["Authorization", "Content-Type"]
        app.add_middleware(CORSMiddleware, allow_origins=list(settings.origins), allow_methods=methods, allow_headers=words)
    app.add_middleware(Guard, settings=settings)  # the last one added is the first one asked
    return app


def _add_state(app: FastAPI, service: Service) -> None:
    metrics = Metrics(service)

    looks = Turns(1, MOST_CONNECTIONS)  # a thread of its own: it answers while those of all others are at work

    def state() -> dict[str, Any]:
        if service.workshop.fault:
            raise broken(service.workshop.fault)
        models = [served.id for served in service.models()]
        return {"status": "ok", "version": __version__, "models": models, "queue": service.store.counts()["queued"]}

    @app.get("/health", tags=["state"])
    async def health() -> dict[str, Any]:
        """Whether the server works, and what it serves; needs no token."""
        return await looks.run(state)

    @app.get("/metrics", tags=["state"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def prometheus() -> Response:
        """For Prometheus: jobs by state, seconds, the queue, memory."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


class _Headers:
    """Adds to each answer what keeps browsers from guessing, keeping and framing it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                added = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items() if name.lower().encode() not in there]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, sent)
