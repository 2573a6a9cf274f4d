"""Routes of one emulated replica: vLLM's, and /emulator/* for faults and state."""

import math
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from aiohttp import web

from loadgen.emulator import errors, planted, sglang
from loadgen.emulator.errors import ApiError
from loadgen.emulator.exposition import exposition
from loadgen.emulator.generation import GenerationRoutes, json_response, read
from loadgen.emulator.planted import Planted
from loadgen.emulator.publisher import KvPublisher
from loadgen.emulator.replica import Replica
from loadgen.emulator.settings import VLLM_VERSION, EmulatorSettings
from loadgen.emulator.transfers import Transfers
from loadgen.tokens import Tokeniser

_OPENAPI = {
    "openapi": "3.1.0",
    "paths": {
        path: {
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}
                    }
                }
            }
        }
        for path, name in (
            ("/v1/chat/completions", "ChatCompletionRequest"),
            ("/v1/completions", "CompletionRequest"),
        )
    },
    "components": {
        "schemas": {
            name: {"properties": {"return_token_ids": {"type": "boolean"}}}
            for name in ("ChatCompletionRequest", "CompletionRequest")
        }
    },
}

Crash = Callable[[bool], Awaitable[None]]


class ReplicaApp:
    """Handlers of one replica. `crash` closes its socket; its argument says whether connections
    are cut at once."""

    def __init__(
        self,
        settings: EmulatorSettings,
        tokeniser: Tokeniser,
        replica: Replica,
        crash: Crash,
        *,
        publisher: KvPublisher | None = None,
        transfers: Transfers | None = None,
    ) -> None:
        self._settings = settings
        self._replica = replica
        self._crash = crash
        self._publisher = publisher
        transfers = transfers or Transfers.alone(settings, replica)
        self._generation = GenerationRoutes(settings, tokeniser, replica, transfers)
        self._created = int(time.time())

    def build(self) -> web.Application:
        app = web.Application(
            middlewares=[_error_bodies], client_max_size=self._settings.body_bytes_max
        )
        app.on_response_prepare.append(_server_header)
        if Planted.CLOCK_SKEW in self._settings.planted:
            app.on_response_prepare.append(_skewed_clock)
        app.router.add_get("/health", self._health, allow_head=False)
        app.router.add_get("/ping", self._health, allow_head=False)
        app.router.add_post("/ping", self._health)
        app.router.add_get("/version", self._version, allow_head=False)
        app.router.add_get("/load", self._load, allow_head=False)
        app.router.add_get("/metrics", self._metrics, allow_head=False)
        if self._settings.engine == "sglang":
            app.router.add_get("/server_info", self._server_info, allow_head=False)
        elif Planted.TENSOR_PARALLEL in self._settings.planted:
            app.router.add_get("/server_info", self._ranks, allow_head=False)
        else:
            app.router.add_get("/kv_event_sources", self._kv_event_sources, allow_head=False)
            app.router.add_get("/openapi.json", self._openapi, allow_head=False)
        app.router.add_get("/v1/models", self._models, allow_head=False)
        self._generation.add_to(app)
        app.router.add_post("/reset_prefix_cache", self._reset_prefix_cache)
        app.router.add_get("/emulator/state", self._state)
        app.router.add_post("/emulator/stall", self._stall)
        app.router.add_post("/emulator/resume", self._resume)
        app.router.add_post("/emulator/fail", self._fail)
        app.router.add_post("/emulator/events", self._event_faults)
        app.router.add_post("/emulator/crash", self._crash_now)
        return app

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=503 if self._replica.faults.dead else 200)

    async def _version(self, request: web.Request) -> web.Response:
        old = Planted.TENSOR_PARALLEL in self._settings.planted
        return json_response({"version": planted.OLD_VERSION if old else VLLM_VERSION})

    async def _load(self, request: web.Request) -> web.Response:
        return json_response({"server_load": self._replica.inflight_count})

    async def _metrics(self, request: web.Request) -> web.Response:
        gauges = self._replica.gauges()
        if self._settings.engine == "sglang":
            text = sglang.metrics_page(self._settings, gauges)
        else:
            text = exposition(self._settings, gauges, self._replica.metrics)
        content_type = "text/plain; version=1.0.0; charset=utf-8"
        return web.Response(body=text, headers={"content-type": content_type})

    async def _openapi(self, request: web.Request) -> web.Response:
        """Of the page, what tells which optional fields the engine knows."""
        return json_response(_OPENAPI)

    async def _server_info(self, request: web.Request) -> web.Response:
        return json_response(sglang.server_info(self._settings, self._publisher))

    async def _ranks(self, request: web.Request) -> web.Response:
        """As an engine in development mode, of which nothing else is emulated."""
        config = f"model={self._settings.model!r}, tensor_parallel_size={planted.RANKS}"
        return json_response({"vllm_config": config})

    async def _kv_event_sources(self, request: web.Request) -> web.Response:
        publisher = self._publisher
        if publisher is None:
            return json_response({})
        source: dict[str, object] = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": f"tcp://*:{publisher.port}",
            "replay_endpoint": f"tcp://*:{publisher.replay_port}",
            "buffer_steps": self._settings.kv_events_buffer,
            "hwm": 100_000,
            "max_queue_size": 100_000,
            "topic": publisher.topic,
        }
        faults = self._settings.planted
        if Planted.EVENTS_CONNECT in faults:
            source["endpoint"] = f"tcp://collector:{publisher.port}"
        if Planted.EVENTS_UNREACHABLE in faults:
            source["endpoint"] = "tcp://*:1"
        if Planted.EVENTS_NO_REPLAY in faults:
            source["replay_endpoint"] = None
        return json_response({"0": source})

    async def _event_faults(self, request: web.Request) -> web.Response:
        """Batches from now on that get lost (`drop`), or arrive twice (`repeat`)."""
        fields = await read(request)
        drop, repeat = fields.get("drop", 0), fields.get("repeat", 0)
        if type(drop) is not int or type(repeat) is not int or self._publisher is None:
            raise errors.refused("drop and repeat are counts; events must be on.", "drop", drop)
        self._publisher.drop_next, self._publisher.repeat_next = drop, repeat
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        return json_response(_model_list(self._settings, self._created))

    async def _reset_prefix_cache(self, request: web.Request) -> web.Response:
        external = request.query.get("reset_external", "false").lower() in ("1", "true")
        self._replica.reset_prefix_cache(external=external)
        return web.Response()

    async def _state(self, request: web.Request) -> web.Response:
        return json_response(
            self._replica.gauges()._asdict() | {"inflight": self._replica.inflight_count}
        )

    async def _stall(self, request: web.Request) -> web.Response:
        seconds = (await read(request)).get("seconds")
        if seconds is not None and not isinstance(seconds, (int, float)):
            raise errors.refused("seconds must be a number or null.", "seconds", seconds)
        self._replica.stall(math.inf if seconds is None else float(seconds))
        return web.Response()

    async def _resume(self, request: web.Request) -> web.Response:
        self._replica.resume()
        return web.Response()

    async def _fail(self, request: web.Request) -> web.Response:
        fields = await read(request)
        count, status = fields.get("count", 1), fields.get("status", 500)
        if type(count) is not int or type(status) is not int or not 400 <= status < 600:
            raise errors.refused("count and an error status are needed.", "status", status)
        self._replica.faults.fail_next = count
        self._replica.faults.fail_status = status
        return web.Response()

    async def _crash_now(self, request: web.Request) -> web.Response:
        abrupt = bool((await read(request)).get("abrupt", False))
        await self._crash(abrupt)
        return web.Response()


async def _server_header(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "uvicorn"
    response.headers["Vary"] = "Origin"


async def _skewed_clock(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Date"] = formatdate(time.time() + planted.CLOCK_SKEW_S, usegmt=True)


@web.middleware
async def _error_bodies(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """ApiError in vLLM's envelope, unknown paths and methods in FastAPI's."""
    try:
        return await handler(request)
    except ApiError as error:
        return json_response(error.body(), error.code)
    except web.HTTPException as error:
        if error.status not in (404, 405):
            raise
        response = json_response({"detail": error.reason}, error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


def _model_list(settings: EmulatorSettings, created: int) -> dict[str, Any]:
    permission = {
        "id": f"modelperm-{settings.seed:016x}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    model = {
        "id": settings.model,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": settings.model,
        "parent": None,
        "max_model_len": settings.context_tokens,
        "permission": [permission],
    }
    return {"object": "list", "data": [model]}
