import aiohttp
import pytest

from loadgen.emulator import EmulatorSettings, Fleet, emulated

FAST = EmulatorSettings(time_scale=1000.0)
ASK = {"messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 4}


async def ask(client: aiohttp.ClientSession, url: str) -> int:
    async with client.post(f"{url}/v1/chat/completions", json=ASK) as response:
        assert response.status == 200
        usage = (await response.json())["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]


async def test_replicas_have_caches_of_their_own():
    async with emulated(FAST, n=3) as urls, aiohttp.ClientSession() as client:
        assert len(set(urls)) == 3
        assert [await ask(client, url) for url in (urls[0], urls[0], urls[1])] == [0, 96, 0]


async def test_ports_are_consecutive_from_a_given_one():
    fleet = Fleet(FAST, 3, port=18001)
    assert [url.rpartition(":")[2] for url in fleet.urls] == ["18001", "18002", "18003"]


async def test_a_taken_port_stops_the_whole_fleet():
    first = Fleet(FAST, 1)
    await first.start()
    second = Fleet(FAST, 1, port=first.listeners[0].port)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await first.stop()


async def test_an_address_of_colons_stands_in_brackets():
    events = EmulatorSettings(time_scale=1000.0, kv_events=True)
    fleet = Fleet(events, 1, host="::1")
    try:
        await fleet.start()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    async with aiohttp.ClientSession() as client:
        assert fleet.urls[0].startswith("http://[::1]:")
        assert await ask(client, fleet.urls[0]) == 0
    await fleet.stop()


async def test_events_that_cannot_listen_stop_the_whole_fleet(monkeypatch):
    monkeypatch.setattr("loadgen.emulator.publisher._BIND_TRIES", 1)
    with pytest.raises(OSError, match="KV events at nohost"):
        await Fleet(EmulatorSettings(kv_events=True), 1, host="nohost.invalid").start()


async def test_a_crashed_replica_is_gone_and_can_come_back_empty():
    fleet = Fleet(FAST, 2)
    await fleet.start()
    async with aiohttp.ClientSession() as client:
        await ask(client, fleet.urls[0])
        await fleet.listeners[0].crash(abrupt=True)
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(client, fleet.urls[0])
        assert await ask(client, fleet.urls[1]) == 0
        await fleet.listeners[0].restart()
        assert await ask(client, fleet.urls[0]) == 0
        assert await ask(client, fleet.urls[0]) == 96
    await fleet.stop()
