"""Every command, and everything that is none, against a table that writes down what it is told."""

import logging
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from typing import Any

import orjson
import pytest

from kvproxy.admin.commands import AdminCommands
from kvproxy.admin.conversations import session_label
from kvproxy.core.access import Access, Key
from kvproxy.core.errors import ProxyError
from kvproxy.core.pins import Pinned
from kvproxy.core.pools import Arm, Pools
from kvproxy.core.replica import Replica
from kvproxy.reload import Reloaded
from kvproxy.settings.replica import ReplicaSettings
from tests.support.fake_ports import FakeExchange, Steps
from tests.support.makers import make_replica

FOUND = ("t", "m", "s", "agent")


@dataclass
class FakeTable:
    told: list[tuple[Any, ...]] = field(default_factory=list)
    ids: list[str] = field(default_factory=lambda: ["a:1"])

    def listing(self) -> list[dict[str, object]]:
        return [{"id": name} for name in self.ids]

    def get(self, replica_id: str) -> Replica:
        if replica_id not in self.ids:
            raise ProxyError("not_found", "no such")
        return make_replica(replica_id)

    def add(self, wanted: ReplicaSettings) -> Replica:
        self.ids.append(wanted.id)
        return self._told("add", wanted.id, wanted.url)

    def drain(self, replica_id: str) -> Replica:
        return self._told("drain", replica_id)

    def undrain(self, replica_id: str) -> Replica:
        return self._told("undrain", replica_id)

    def remove(self, replica_id: str, grace_s: float) -> Replica:
        return self._told("remove", replica_id, grace_s)

    def pin(self, replica_id: str, what: Pinned) -> None:
        self._told("pin", replica_id, what)

    def unpin(self, what: Pinned) -> None:
        self.told.append(("unpin", what))

    def _told(self, verb: str, replica_id: str, *more: object) -> Replica:
        self.told.append((verb, replica_id, *more))
        return self.get(replica_id)


class Asked(FakeExchange):
    query = ""

    @property
    def target(self) -> str:
        return self.path + self.query


def find(name: str) -> Pinned:
    if name != "shown":
        raise ProxyError("not_found", "never shown")
    return FOUND


async def ask(
    method: str,
    target: str,
    body: object = None,
    *,
    table: FakeTable | None = None,
    trusted: bool = True,
    access: Access | None = None,
    **header: str,
) -> tuple[int, Any]:
    async def reload() -> Reloaded:
        return Reloaded(refused=("no",)) if "refuse" in header else Reloaded()

    raw = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    path, mark, query = target.partition("?")
    exchange = Asked(Steps(), raw, method=method, path=path, header=header)
    exchange.query = mark + query
    pools = Pools()
    pools.replace({"alias": [Arm("org/m")], "split": [Arm("org/m"), Arm("n")]}, {})
    commands = AdminCommands(
        table or FakeTable(), find, reload, access or Access(), pools, trusted=trusted
    )
    page = await commands.handle(exchange)
    return page.status, orjson.loads(page.body)


@pytest.mark.parametrize(
    ("method", "target", "body", "told"),
    [
        ("POST", "/admin/replicas", {"url": "http://b:2"}, ("add", "b:2", "http://b:2")),
        ("POST", "/admin/replicas/a:1/drain", None, ("drain", "a:1")),
        ("POST", "/admin/replicas/a%3A1/undrain", None, ("undrain", "a:1")),
        ("POST", "/admin/replicas/a:1/remove?grace_s=3", None, ("remove", "a:1", 3.0)),
        ("DELETE", "/admin/replicas/a:1", None, ("remove", "a:1", inf)),
        ("POST", "/admin/replicas/a:1/pin", {"session": "s"}, ("pin", "a:1", "s")),
        ("POST", "/admin/replicas/a:1/unpin", {"session": "s"}, ("unpin", "s")),
        ("POST", "/admin/replicas/a:1/pin", {"conversation": "shown"}, ("pin", "a:1", FOUND)),
        ("POST", "/admin/replicas/a:1/unpin", {"conversation": "shown"}, ("unpin", FOUND)),
    ],
)
async def test_commands_are_done_and_answered_with_the_replica(
    method: str, target: str, body: object, told: tuple[object, ...]
) -> None:
    table = FakeTable()
    status, row = await ask(method, target, body, table=table)
    assert status == (201 if told[0] == "add" else 200)
    assert row == {"id": "b:2" if told[0] == "add" else "a:1"}
    assert table.told == [told]


async def test_replicas_are_shown_to_whoever_may_see_the_page() -> None:
    assert await ask("GET", "/admin/replicas", trusted=False) == (
        200,
        {"replicas": [{"id": "a:1"}]},
    )
    assert await ask("GET", "/admin/replicas/a:1", trusted=False) == (200, {"id": "a:1"})


async def test_a_reload_says_what_it_came_to() -> None:
    assert (await ask("POST", "/admin/reload"))[0] == 200
    status, told = await ask("POST", "/admin/reload", refuse="1")
    assert (status, told["applied"], told["refused"]) == (409, False, ["no"])


@pytest.mark.parametrize(
    ("method", "target", "body", "code"),
    [
        ("GET", "/admin/other", None, "not_found"),
        ("GET", "/admin/replicas/none", None, "not_found"),
        ("GET", "/admin/reload", None, "not_found"),
        ("PUT", "/admin/replicas", {"url": "http://b:2"}, "not_found"),
        ("POST", "/admin/replicas/a:1", None, "not_found"),
        ("POST", "/admin/replicas/a:1/dance", None, "not_found"),
        ("GET", "/admin/replicas/a:1/drain", None, "not_found"),
        ("POST", "/admin/replicas/a:1/remove?grace_s=x", None, "invalid_body"),
        ("POST", "/admin/replicas/a:1/remove?grace_s=-1", None, "invalid_body"),
        ("POST", "/admin/replicas/a:1/remove?grace_s=nan", None, "invalid_body"),
        ("POST", "/admin/replicas/a:1/pin", {}, "invalid_body"),
        ("POST", "/admin/replicas/a:1/pin", {"session": "x" * 2000}, "invalid_body"),
        ("POST", "/admin/replicas/a:1/pin", {"conversation": "other"}, "not_found"),
        ("POST", "/admin/replicas/a:1/pin", {"conversation": 1}, "invalid_body"),
        (
            "POST",
            "/admin/replicas/a:1/pin",
            {"conversation": "shown", "session": "s"},
            "invalid_body",
        ),
        ("POST", "/admin/replicas", b"{", "invalid_json"),
        ("POST", "/admin/replicas", b"[]", "invalid_body"),
        ("POST", "/admin/replicas", {"url": "file:///etc/passwd"}, "invalid_body"),
        ("POST", "/admin/replicas", {"url": "http://b:2", "more": 1}, "invalid_body"),
        ("POST", "/admin/replicas", b" " * 70_000, "body_too_large"),
    ],
)
async def test_what_is_no_command_does_nothing(
    method: str, target: str, body: object, code: str
) -> None:
    table = FakeTable()
    with pytest.raises(ProxyError) as found:
        await ask(method, target, body, table=table)
    assert found.value.code == code
    assert not table.told


async def test_changes_need_a_key_or_a_listener_of_their_own() -> None:
    digest = sha256(b"k").hexdigest()
    closed = Access([Key("root", digest, "root", admin=True)])
    target = "/admin/replicas/a:1/drain"
    with pytest.raises(ProxyError, match="admin key"):
        await ask("POST", target, trusted=False)
    assert (await ask("POST", target, trusted=False, access=closed))[0] == 200


async def test_what_is_changed_is_logged_with_who_did_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("kvproxy"), "propagate", True)
    access = Access([Key("root", sha256(b"k").hexdigest(), "root", admin=True)])
    session = session_label("whose-it-is")
    with caplog.at_level("INFO", "kvproxy.admin"):
        await ask("POST", "/admin/replicas/a:1/drain", access=access, authorization="Bearer k")
        body = {"conversation": "shown"}
        await ask("POST", "/admin/replicas/a:1/pin", body, authorization="Bearer k")
        await ask("POST", "/admin/replicas/a:1/pin", {"session": "whose-it-is"})
        await ask("GET", "/admin/replicas")
    assert caplog.messages == [
        "POST /admin/replicas/a:1/drain by root",
        "POST /admin/replicas/a:1/pin of conversation shown by an operator without a key",
        f"POST /admin/replicas/a:1/pin of session {session} by an operator without a key",
    ]


async def test_a_page_of_another_origin_changes_nothing() -> None:
    target, table = "/admin/replicas/a:1/drain", FakeTable()
    with pytest.raises(ProxyError, match="other origins"):
        await ask("POST", target, table=table, origin="http://evil", host="proxy:1")
    assert not table.told
    assert (await ask("POST", target, origin="http://proxy:1", host="proxy:1"))[0] == 200


class PoolTable(FakeTable):
    models: tuple[tuple[str, ...], ...] = (("org/m", "lora"), ("n",), ("org/m",))

    def listing(self) -> list[dict[str, object]]:
        rows = zip(self.ids, self.models, strict=True)
        return [{"id": name, "models": models, "health": "ready"} for name, models in rows]


@pytest.mark.parametrize(
    ("name", "ids"),
    [("org/m", ["a", "c"]), ("org%2Fm", ["a", "c"]), ("alias", ["a", "c"]), ("lora", ["a"])],
)
@pytest.mark.parametrize("verb", ["drain", "undrain"])
async def test_a_model_is_drained_on_all_its_replicas(verb: str, name: str, ids: Any) -> None:
    table = PoolTable(ids=["a", "b", "c"])
    status, told = await ask("POST", f"/admin/models/{name}/{verb}", table=table)
    assert (status, [row["id"] for row in told["replicas"]]) == (200, ids)
    assert table.told == [(verb, each) for each in ids]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/admin/models/none/drain", "not_found"),
        ("POST", "/admin/models/split/drain", "conflict"),
        ("POST", "/admin/models/n/remove", "not_found"),
        ("POST", "/admin/models", "not_found"),
        ("DELETE", "/admin/models/n/drain", "not_found"),
    ],
)
async def test_pools_that_cannot_be_drained(method: str, path: str, code: str) -> None:
    table = PoolTable(ids=["a", "b", "c"])
    with pytest.raises(ProxyError) as raised:
        await ask(method, path, table=table)
    assert (raised.value.code, table.told) == (code, [])


async def test_draining_a_model_needs_a_key_as_any_change() -> None:
    with pytest.raises(ProxyError, match="Changes need"):
        await ask("POST", "/admin/models/n/drain", trusted=False)


async def test_pools_are_shown_with_what_names_stand_for() -> None:
    status, told = await ask("GET", "/admin/models", table=PoolTable(ids=["a", "b", "c"]))
    assert status == 200
    assert [row["id"] for row in told["models"]["org/m"]] == ["a", "c"]
    assert told["names"]["alias"] == [{"model": "org/m", "weight": 1.0}]
