"""A replica that comes back with an empty cache is sent what conversations share, end to end."""

import orjson

from kvproxy.core.life_cycle import Health
from loadgen.emulator import EmulatorSettings, Fleet
from tests.support.proxies import eventually, proxied, settled
from tests.support.wire import ask, post, request

SYSTEM = {"role": "system", "content": "Be careful with everything. " * 400}
PROBE = {"interval_s": 0.02, "unhealthy_after": 1}


def body(said: str) -> bytes:
    messages = [SYSTEM, {"role": "user", "content": said}]
    return orjson.dumps({"model": "m", "messages": messages, "max_tokens": 1})


async def test_a_replica_that_was_restarted_holds_the_system_text_again() -> None:
    fleet = Fleet(EmulatorSettings(model="m"), 1)
    await fleet.start()
    try:
        async with proxied(fleet.urls, probe=PROBE) as (app, url):
            for index in range(3):
                assert (await ask(url, post(body(f"hello {index}")))).status == 200
            [listener], [replica] = fleet.listeners, app.router.replicas
            await listener.crash(abrupt=True)
            await eventually(lambda: replica.health is Health.EJECTED)
            await listener.restart()
            # The answer to what it is sent is what proves it well.
            await eventually(lambda: replica.health is Health.READY)
            assert replica.share(0.0) < 1.0
            got = orjson.loads((await ask(url, post(body("and now?")))).body)
            cached = got["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert cached > 0.9 * got["usage"]["prompt_tokens"]
            page = (await ask(url, request("GET", "/metrics"))).body
            assert b'kvproxy_warm_ups_total{outcome="sent"} 1.0' in page
            await settled(app)
    finally:
        await fleet.stop()
