"""What operators have done: replicas added, drained and removed, conversations pinned, settings
read again. POST and DELETE under /admin, answered with what is so afterwards.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote

import orjson
from pydantic import ValidationError

from kvproxy.adapters.http1.listener import Page
from kvproxy.admin.conversations import session_label
from kvproxy.core.access import Access
from kvproxy.core.errors import ProxyError
from kvproxy.core.pieces import whole
from kvproxy.core.pins import Pinned
from kvproxy.core.pools import Pools
from kvproxy.core.replica import Replica
from kvproxy.proxy import Exchange
from kvproxy.settings.errors import problems_of
from kvproxy.settings.replica import ReplicaSettings

log = logging.getLogger("kvproxy.admin")

_BODY_BYTES_MAX = 64 * 2**10
_SESSION_CHARS_MAX = 1024
_PATH = re.compile(
    r"/admin/(?:replicas(?:/(?P<id>[^/]+)(?:/(?P<verb>[a-z]+))?)?"
    r"|models(?:/(?P<model>.+)/(?P<do>drain|undrain))?|(?P<other>reload))"
)


class Table(Protocol):
    """The replicas; see ReplicaTable."""

    def listing(self) -> list[dict[str, object]]: ...

    def get(self, replica_id: str) -> Replica: ...

    def add(self, wanted: ReplicaSettings) -> Replica: ...

    def drain(self, replica_id: str) -> Replica: ...

    def undrain(self, replica_id: str) -> Replica: ...

    def remove(self, replica_id: str, grace_s: float) -> Replica: ...

    def pin(self, replica_id: str, what: Pinned) -> None: ...

    def unpin(self, what: Pinned) -> None: ...


class Told(Protocol):
    """What a reload came to."""

    @property
    def refused(self) -> Sequence[str]: ...

    def as_json(self) -> dict[str, object]: ...


Reload = Callable[[], Awaitable[Told]]


class AdminCommands:
    """`find`: see Conversations. `trusted`: the listener is for operators alone, so that changes
    need no key where there are none. `operator` names the key of a request. What was changed, and
    who did it, is logged."""

    def __init__(
        self,
        table: Table,
        find: Callable[[str], Pinned],
        reload: Reload,
        access: Access,
        pools: Pools,
        *,
        trusted: bool,
        operator: Callable[[Mapping[str, str]], str] | None = None,
    ) -> None:
        self._table = table
        self._find = find
        self._operator = operator or access.name_of
        self._pools = pools
        self._reload = reload
        self._access = access
        self._trusted = trusted

    async def handle(self, exchange: Exchange) -> Page:
        """Raises ProxyError for what cannot be done."""
        found = _PATH.fullmatch(exchange.path)
        if found is None:
            raise ProxyError("not_found", f"There is no {exchange.path}; see /admin/replicas.")
        of_models = exchange.path.startswith("/admin/models")
        looks = found["other"] is None and found["verb"] is None and found["do"] is None
        if exchange.method == "GET" and looks:
            return self._show_pools() if of_models else self._show(found["id"])
        self._check_change(exchange.header)
        body = await _body(exchange)
        page = await self._done(exchange, found, body)
        who = self._operator(exchange.header) or "an operator without a key"
        about = _about(body) if found["verb"] in ("pin", "unpin") else ""
        log.info("%s %s%s by %s", exchange.method, exchange.path, about, who)
        return page

    async def _done(self, exchange: Exchange, found: re.Match[str], body: dict[str, Any]) -> Page:
        of_models = exchange.path.startswith("/admin/models")
        if found["other"] and exchange.method == "POST":
            told = await self._reload()
            return _page(told.as_json(), 409 if told.refused else 200)
        if of_models:
            if exchange.method == "POST" and found["do"]:
                return self._change_pool(unquote(found["model"]), found["do"])
            raise _not_taken(exchange)
        query = parse_qs(exchange.target.partition("?")[2])
        match exchange.method, found["id"], found["verb"]:
            case "POST", None, None:
                return _page(self._one(self._table.add(_replica(body)).id), 201)
            case "DELETE", str(name), None:
                return self._change(unquote(name), "remove", query)
            case "POST", str(name), ("drain" | "undrain" | "remove") as verb:
                return self._change(unquote(name), verb, query)
            case "POST", str(name), "pin":
                self._table.pin(unquote(name), self._pinned(body))
                return _page(self._one(unquote(name)))
            case "POST", str(name), "unpin":
                self._table.get(unquote(name))
                self._table.unpin(self._pinned(body))
                return _page(self._one(unquote(name)))
        raise _not_taken(exchange)

    def _show(self, name: str | None) -> Page:
        return _page(
            {"replicas": self._table.listing()} if name is None else self._one(unquote(name))
        )

    def _change(self, name: str, verb: str, query: Mapping[str, list[str]]) -> Page:
        match verb:
            case "drain":
                self._table.drain(name)
            case "undrain":
                self._table.undrain(name)
            case _:
                self._table.remove(name, _grace_s(query))
        return _page(self._one(name))

    def _show_pools(self) -> Page:
        """Every model with its replicas, and what each name stands for."""
        pools: dict[str, list[dict[str, object]]] = {}
        for row in self._table.listing():
            for model in _models(row):
                pools.setdefault(model, []).append({"id": row["id"], "health": row["health"]})
        names = {
            name: [{"model": arm.model, "weight": arm.weight} for arm in arms]
            for name, arms in self._pools.names.items()
        }
        return _page({"models": pools, "names": names})

    def _change_pool(self, name: str, verb: str) -> Page:
        """All replicas that say they serve the model, or the only one that the name stands for."""
        rows = self._table.listing()
        model = name
        if not any(name in _models(row) for row in rows):
            stands_for = self._pools.models(name)
            if len(stands_for) > 1:
                which = ", ".join(stands_for)
                raise ProxyError("conflict", f"`{name}` stands for several models: say {which}.")
            model = stands_for[0]
        ids = [str(row["id"]) for row in rows if model in _models(row)]
        if not ids:
            raise ProxyError("not_found", f"No replica serves `{name}`; see /admin/models.")
        change = self._table.drain if verb == "drain" else self._table.undrain
        for replica_id in ids:
            change(replica_id)
        after = [row for row in self._table.listing() if row["id"] in ids]
        return _page({"model": model, "replicas": after})

    def _pinned(self, body: dict[str, Any]) -> Pinned:
        """All agents of a session, by the id that its client sends, or one conversation, by the
        name it has in the live view."""
        shown = body.get("conversation")
        if shown is None:
            return _session(body)
        if not isinstance(shown, str) or "session" in body:
            said = 'Either {"session": "…"} or {"conversation": "…"}.'
            raise ProxyError("invalid_body", said, param="conversation")
        return self._find(shown)

    def _one(self, name: str) -> dict[str, object]:
        self._table.get(name)
        return next(row for row in self._table.listing() if row["id"] == name)

    def _check_change(self, header: Mapping[str, str]) -> None:
        """Who may ask may not yet change: that needs a key or a listener for operators alone. And a
        browser that somebody's page sends here is refused."""
        if not self._access.closed and not self._trusted:
            raise ProxyError(
                "forbidden",
                "Changes need an admin key (access.keys) or their own listener (admin.listen).",
            )
        origin = header.get("origin")
        if origin is not None and origin.partition("://")[2] != header.get("host"):
            raise ProxyError("forbidden", "Pages of other origins change nothing here.")


def _models(row: Mapping[str, object]) -> Sequence[str]:
    models = row["models"]
    assert isinstance(models, tuple | list)
    return models


def _not_taken(exchange: Exchange) -> ProxyError:
    return ProxyError("not_found", f"{exchange.path} does not take {exchange.method} like that.")


async def _body(exchange: Exchange) -> dict[str, Any]:
    raw = whole(await exchange.accept())
    if len(raw) > _BODY_BYTES_MAX:
        raise ProxyError("body_too_large", f"More than {_BODY_BYTES_MAX} bytes.")
    if not raw:
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ProxyError("invalid_json", f"The body is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise ProxyError("invalid_body", "The body must be an object.")
    return body


def _replica(body: dict[str, Any]) -> ReplicaSettings:
    try:
        return ReplicaSettings.model_validate(body)
    except ValidationError as error:
        problems = "; ".join(str(found) for found in problems_of(error, ReplicaSettings, {}))
        raise ProxyError("invalid_body", f"Not a replica: {problems}.") from None


def _session(body: dict[str, Any]) -> str:
    session = body.get("session")
    if not isinstance(session, str) or not 0 < len(session) <= _SESSION_CHARS_MAX:
        raise ProxyError(
            "invalid_body", 'Say which: {"session": "…"} or {"conversation": "…"}.', param="session"
        )
    return session


def _about(body: dict[str, Any]) -> str:
    """Which conversation, in words that do not say whose it is."""
    if "session" in body:
        return f" of session {session_label(body['session'])}"
    return f" of conversation {body['conversation']}"


def _grace_s(query: Mapping[str, list[str]]) -> float:
    text = query.get("grace_s", ["inf"])[0]
    try:
        grace_s = float(text)
    except ValueError:
        grace_s = -1.0
    if not grace_s >= 0 or (not isfinite(grace_s) and text != "inf"):
        raise ProxyError("invalid_body", "grace_s is a number of seconds.", param="grace_s")
    return grace_s


def _page(value: object, status: int = 200) -> Page:
    return Page(orjson.dumps(value, option=orjson.OPT_INDENT_2), status=status)
