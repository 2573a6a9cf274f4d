"""One kind of Kubernetes object, listed once and watched from there."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import ClientError
from kubernetes_asyncio import watch
from kubernetes_asyncio.client import ApiClient, ApiException

from kvproxy.core.spent import spent

log = logging.getLogger("kvproxy.discovery")
_WATCH_S = 240
_BACKOFF_S, _BACKOFF_MAX_S = 0.5, 15.0

Objects = dict[str, dict[str, Any]]


class Reflector:
    """`lister` is a list_… method of a Kubernetes API, called with `query`; `changed` is called
    when `objects`, by name, are not as they were. Until `synced` they say nothing."""

    def __init__(
        self,
        api: ApiClient,
        lister: Callable[..., Any],
        query: dict[str, Any],
        changed: Callable[[], None],
    ) -> None:
        self._api = api
        self._lister = lister
        self._query = query
        self._changed = changed
        self._version = ""
        self.objects: Objects = {}
        self.synced = False
        self.lists = 0

    async def run(self) -> None:
        """For ever. A list that fails leaves what is known as it is; a watch that breaks off goes
        on where it was, unless the server has forgotten that far back (410 Gone)."""
        backoff_s = _BACKOFF_S
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                backoff_s = _BACKOFF_S
            except ApiException as error:
                if error.status == 410:
                    log.info("watch of %s is too far back: listing again", self._lister.__name__)
                    self._version = ""
                    continue
                log.warning("Kubernetes says %s %s", error.status, error.reason)
            except (ClientError, OSError, TimeoutError, ValueError, LookupError) as error:
                log.warning("Kubernetes cannot be asked: %r", error)
                spent(error)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)

    async def _list(self) -> None:
        found = self._api.sanitize_for_serialization(await self._lister(**self._query))
        self.lists += 1
        self._version = found["metadata"]["resourceVersion"]
        self.objects = {each["metadata"]["name"]: each for each in found.get("items") or []}
        self.synced = True
        self._changed()

    async def _watch(self) -> None:
        query = {"resource_version": self._version, "allow_watch_bookmarks": True}
        query |= {"timeout_seconds": _WATCH_S} | self._query
        async with watch.Watch() as watching:
            async for event in watching.stream(self._lister, **query):
                self._see(event["type"], event["raw_object"])

    def _see(self, kind: str, each: dict[str, Any]) -> None:
        if kind == "ERROR":
            status = int(each.get("code") or 500)
            raise ApiException(status=status, reason=str(each.get("reason", "")))
        self._version = each["metadata"].get("resourceVersion", self._version)
        name = each["metadata"].get("name", "")
        if kind == "DELETED":
            self.objects.pop(name, None)
        elif kind in ("ADDED", "MODIFIED"):
            self.objects[name] = each
        else:
            return
        self._changed()
