"""A replica that joins is sent what many prompts begin with, before conversations find it cold."""

import orjson

from kvproxy.settings.replica import ReplicaSettings
from tests.support.proxies import eventually, proxied, settled
from tests.support.recording import Received, answer, recording
from tests.support.wire import ask, post, request

SYSTEMS = {name: f"You are {name}. " + "Do as you are told. " * 400 for name in ("one", "two")}


def chat(system: str, said: str) -> bytes:
    messages = [
        {"role": "system", "content": SYSTEMS[system]},
        {"role": "user", "content": said},
    ]
    return orjson.dumps({"model": "m", "messages": messages})


def begins(received: Received) -> str:
    """Which system text it has, if it is nothing but that and a word."""
    system, *said = orjson.loads(received.body)["messages"]
    [name] = [name for name, text in SYSTEMS.items() if text == system["content"]]
    assert [len(each["content"]) for each in said] == [1]
    return name


async def test_the_hottest_goes_first_and_new_conversations_find_it() -> None:
    async with (
        recording(2) as [first, second],
        proxied([first.url], warm={"slow_start_s": 0}) as (app, url),
    ):
        for replica in (first, second):
            replica.script = lambda received: answer(b'{"choices":[]}')
        for system, count in (("one", 2), ("two", 5)):
            for number in range(count):
                raw = post(chat(system, f"{number}"), x_session_id=f"{system}{number}")
                assert (await ask(url, raw)).status == 200
        joins = orjson.dumps({"url": second.url})
        assert (await ask(url, request("POST", "/admin/replicas", [], joins))).status == 403
        # Without keys nobody changes anything over the network.
        app.table.add(ReplicaSettings.model_validate({"url": second.url}))
        await eventually(lambda: len(second.received) == 2)
        assert [begins(each) for each in second.received] == ["two", "one"]
        await settled(app)
        [joined] = [each for each in app.router.replicas if each.url == second.url]
        assert joined.hbm.runs
        # What it was sent is worth as much there as at the other one.
        app.table.drain(next(each.id for each in app.router.replicas if each.url == first.url))
        await ask(url, post(chat("two", "anything"), x_kvproxy_decision="1"))
        page = (await ask(url, request("GET", "/metrics"))).body
        assert b'kvproxy_warm_ups_total{outcome="sent"} 2.0' in page
        await settled(app)
