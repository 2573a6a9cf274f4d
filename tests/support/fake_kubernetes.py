"""An API server that lists and watches EndpointSlices and pods as Kubernetes does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web

KINDS = {
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "pods": ("v1", "Pod"),
}


class FakeKubernetes:
    """`put` and `delete` objects; watchers hear of it. `compact` makes it forget what was before:
    who wants to go on from there is told 410 Gone."""

    def __init__(self) -> None:
        self.url = ""
        self.version = 1
        self.oldest = 0
        self.lists = 0
        self.watches = 0
        self._objects: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        self._log: list[tuple[int, str, str, Any]] = []
        self._moved = asyncio.Event()
        self._connections: set[asyncio.Task[Any]] = set()

    def put(self, kind: str, name: str, **fields: Any) -> None:
        self.version += 1
        api, title = KINDS[kind]
        meta = {"name": name, "namespace": "ns", "resourceVersion": str(self.version)}
        meta |= fields.pop("metadata", {})
        event = "MODIFIED" if name in self._objects[kind] else "ADDED"
        each = {"apiVersion": api, "kind": title, "metadata": meta, **fields}
        self._objects[kind][name] = each
        self._tell(kind, event, each)

    def delete(self, kind: str, name: str) -> None:
        self.version += 1
        each = self._objects[kind].pop(name)
        each["metadata"]["resourceVersion"] = str(self.version)
        self._tell(kind, "DELETED", each)

    def bookmark(self, kind: str) -> None:
        self.version += 1
        api, title = KINDS[kind]
        meta = {"resourceVersion": str(self.version)}
        self._tell(kind, "BOOKMARK", {"apiVersion": api, "kind": title, "metadata": meta})

    def compact(self) -> None:
        self.version += 1
        self.oldest = self.version

    def disconnect(self) -> None:
        for task in self._connections:
            task.cancel()

    def _tell(self, kind: str, event: str, each: Any) -> None:
        self._log.append((self.version, kind, event, json.loads(json.dumps(each))))
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        kind = request.path.rsplit("/", 1)[1]
        if request.query.get("watch") in ("true", "True", "1"):
            return await self._watch(request, kind)
        self.lists += 1
        api, title = KINDS[kind]
        items = [each for each in self._objects[kind].values() if _fits(request, each)]
        meta = {"resourceVersion": str(self.version)}
        body = {"apiVersion": api, "kind": f"{title}List", "metadata": meta, "items": items}
        return web.json_response(body)

    async def _watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        self.watches += 1
        at = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        if at < self.oldest:
            gone = {
                "kind": "Status",
                "code": 410,
                "reason": "Expired",
                "message": "too old",
                "metadata": {},
            }
            await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            return response
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while True:
                moved = self._moved
                for version, of, event, each in self._log:
                    if version > at and of == kind and _fits(request, each):
                        line = json.dumps({"type": event, "object": each}).encode() + b"\n"
                        await response.write(line)
                        at = version
                await moved.wait()
        finally:
            self._connections.discard(task)


def _fits(request: web.Request, each: Any) -> bool:
    wanted = request.query.get("labelSelector", "")
    labels = each["metadata"].get("labels", {})
    pairs = [pair.split("=") for pair in wanted.split(",") if pair]
    return all(labels.get(key) == value for key, value in pairs) or "name" not in each["metadata"]


@asynccontextmanager
async def fake_kubernetes() -> AsyncIterator[FakeKubernetes]:
    fake = FakeKubernetes()
    app = web.Application()
    app.router.add_get("/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices", fake._serve)
    app.router.add_get("/api/v1/namespaces/ns/pods", fake._serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        fake.disconnect()
        with suppress(asyncio.CancelledError):
            await runner.cleanup()


def endpoint(name: str, ip: str = "127.0.0.1", *, terminating: bool = False) -> dict[str, Any]:
    return {
        "addresses": [ip],
        "conditions": {"ready": not terminating, "serving": True, "terminating": terminating},
        "targetRef": {"kind": "Pod", "name": name, "namespace": "ns"},
    }


OF_SERVICE = {"labels": {"kubernetes.io/service-name": "engines"}}


def slice_of(endpoints: list[dict[str, Any]], port: int) -> dict[str, Any]:
    return {
        "metadata": OF_SERVICE,
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }
