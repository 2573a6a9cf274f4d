"""An engine that declines work and says for how long is left alone that long, by every process."""

import time

import pytest

from tests.integration.test_shutdown import served
from tests.support.proxies import proxied, settled
from tests.support.recording import RecordingReplica, answer, recording
from tests.support.wire import ask, post

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
ENOUGH = 8


def busy(replica: RecordingReplica, status: str, after: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"retry-after", after)]
    replica.script = lambda received: answer(b'{"busy":1}', status=status, headers=headers)


async def turn(url: str, session: str = "s") -> tuple[int, bytes | None]:
    got = await ask(url, post(CHAT, x_session_id=session))
    return got.status, got.header(b"retry-after")


@pytest.mark.parametrize("status", ["429 Slow down", "503 Later"])
async def test_work_goes_elsewhere_until_then(status: str) -> None:
    async with recording(2) as replicas, proxied([r.url for r in replicas]) as (app, url):
        await turn(url)
        home = next(replica for replica in replicas if replica.received)
        busy(home, status, b"30")
        asked = len(home.received)
        for _ in range(ENOUGH):
            assert await turn(url) == (200, None)
        # Once was needed to be told.
        assert len(home.received) == asked + 1
        await settled(app)


async def test_without_another_one_work_waits_here_and_no_longer_than_it_said() -> None:
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        busy(replica, "429 Slow down", b"1")
        assert await turn(url) == (429, b"1")
        replica.script = lambda received: answer()
        began = time.monotonic()
        assert await turn(url) == (200, None)
        # The backlog that a replica is given is a second of work: what is left of one is no wait.
        assert time.monotonic() - began < 30.0
        assert len(replica.received) == 2
        busy(replica, "429 Slow down", b"3")
        assert await turn(url) == (429, b"3")
        replica.script = lambda received: answer()
        began = time.monotonic()
        assert await turn(url) == (200, None)
        assert time.monotonic() - began > 1.0
        await settled(app)


async def test_workers_tell_each_other() -> None:
    async with recording(2) as replicas:
        flags = [flag for replica in replicas for flag in ("--replica", replica.url)]
        async with served("--workers", "2", *flags) as (_, url):
            await turn(url)
            home = next(replica for replica in replicas if replica.received)
            busy(home, "429 Slow down", b"30")
            asked = len(home.received)
            for number in range(ENOUGH):
                assert (await turn(url, "s" if number % 2 else f"s{number}"))[0] == 200
            assert len(home.received) <= asked + 1
