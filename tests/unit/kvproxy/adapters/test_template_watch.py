import asyncio
from array import array

import aiohttp
import msgspec
import pytest

from kvproxy import background
from kvproxy.adapters.template_watch import TemplateWatch
from kvproxy.core.life_cycle import Evidence, Health
from kvproxy.core.replica import Replica
from kvproxy.core.tokenise import Question
from kvproxy.core.unprinted import Trait, Unprinted
from tests.support.makers import make_replica
from tests.support.proxies import eventually

NAMED = b'"name":"kim"'


class Templates:
    """One replica each: `prints` names, or raises something instead."""

    def __init__(self, **prints: bool | Exception) -> None:
        self.prints = prints
        self.replicas = [make_replica(name) for name in prints]
        self.asked: list[tuple[str, str]] = []
        for replica in self.replicas:
            replica.models = ("m",)
        self.unprinted = Unprinted(asking=True)
        self.unprinted.wanted = {Trait.NAMES: None}
        self.watch = TemplateWatch(self.replicas, self.unprinted, self._tokens, interval_s=0.01)

    async def _tokens(self, replica: Replica, question: Question) -> "array[int]":
        self.asked.append((replica.id, question.path))
        assert msgspec.json.decode(question.body)["model"] == "m"
        prints = self.prints[replica.id]
        if isinstance(prints, Exception):
            raise prints
        return array("I", [1, 2, 3] if prints and NAMED in question.body else [1, 2])


async def test_what_templates_do_not_print_counts_no_more() -> None:
    templates = Templates(a=False, b=False)
    await templates.watch.start()
    try:
        assert not templates.unprinted.prints(Trait.NAMES)
        assert sorted(templates.asked) == [(name, "/tokenize") for name in "aabb"]
    finally:
        await templates.watch.close()


@pytest.mark.parametrize("other", [True, ValueError("no such page"), TimeoutError()])
async def test_what_one_prints_or_cannot_say_counts(other: bool | Exception) -> None:
    templates = Templates(a=False, b=other)
    await templates.watch.start()
    try:
        await eventually(lambda: not templates.unprinted.unasked("b"))
        assert templates.unprinted.prints(Trait.NAMES)
    finally:
        await templates.watch.close()


async def test_a_replica_that_was_not_there_for_a_moment_is_asked_again() -> None:
    templates = Templates(a=aiohttp.ClientConnectionError())
    await templates.watch.start()
    try:
        assert templates.unprinted.prints(Trait.NAMES)
        await eventually(lambda: len(templates.asked) > 0)
        templates.prints["a"] = False
        await eventually(lambda: not templates.unprinted.prints(Trait.NAMES))
        # It went and came back, and may be another version.
        [replica] = templates.replicas
        templates.prints["a"] = True
        for _ in range(10):
            replica.see(Evidence.PROBE_FAILED, 0.0)
        assert replica.health is not Health.READY
        await eventually(lambda: templates.unprinted.unasked("a") == [Trait.NAMES])
    finally:
        await templates.watch.close()


async def test_nobody_is_asked_where_that_is_switched_off() -> None:
    templates = Templates(a=False)
    templates.unprinted.asking = False
    await templates.watch.start()
    assert templates.unprinted.prints(Trait.NAMES)
    await templates.watch.close()
    assert not templates.asked


async def test_a_replica_that_failed_once_still_serves() -> None:
    templates = Templates(a=False)
    await templates.watch.start()
    try:
        assert not templates.unprinted.prints(Trait.NAMES)
        edition, [replica] = templates.unprinted.edition, templates.replicas
        replica.see(Evidence.FAILED, 1.0)
        assert replica.health is Health.SUSPECT
        templates.unprinted.wanted[Trait.IDS] = None
        templates.unprinted.wake()
        await eventually(lambda: not templates.unprinted.unasked("a"))
        assert not templates.unprinted.prints(Trait.NAMES)
        assert templates.unprinted.edition <= edition + 1
    finally:
        await templates.watch.close()


async def test_what_nobody_foresaw_does_not_end_the_asking(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_AGAIN_S", 0.001)
    templates = Templates(a=KeyError("nobody foresaw it"))
    starting = asyncio.create_task(templates.watch.start())
    try:
        await eventually(lambda: "templates failed" in caplog.text)
        templates.prints["a"] = False
        await starting
        assert not templates.unprinted.prints(Trait.NAMES)
    finally:
        await templates.watch.close()
