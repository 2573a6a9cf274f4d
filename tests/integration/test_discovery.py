"""A fake cluster whose replicas are restarted one after another, while clients go on."""

import asyncio
from collections import Counter

import aiohttp
import orjson

from kvproxy.settings.model import Settings
from loadgen.emulator import EmulatorSettings, Fleet
from tests.support.fake_kubernetes import FakeKubernetes, endpoint, fake_kubernetes, slice_of
from tests.support.proxies import Running, eventually, proxied, settled

REPLICAS = 8
ENGINE = EmulatorSettings(model="m", hbm_tokens=200_000, prefill_tok_s=50_000, time_scale=10)


class Cluster:
    """Pods with one emulated engine each; every pod has a slice of its own, since on one machine
    they differ by port."""

    def __init__(self, api: FakeKubernetes) -> None:
        self._api = api
        self._pods: dict[str, Fleet] = {}

    async def start(self, name: str) -> None:
        fleet = self._pods[name] = Fleet(ENGINE, 1)
        await fleet.start()
        self._api.put("pods", name, metadata={"annotations": {"kvproxy.dev/weight": "2"}})
        self._show(name)

    def _show(self, name: str, *, terminating: bool = False) -> None:
        port = self._pods[name].listeners[0].port
        end = endpoint(name, terminating=terminating)
        self._api.put("endpointslices", f"slice-{name}", **slice_of([end], port))

    def terminate(self, name: str) -> None:
        self._show(name, terminating=True)

    async def stop(self, name: str) -> None:
        await self._pods.pop(name).stop()
        self._api.delete("endpointslices", f"slice-{name}")
        self._api.delete("pods", name)

    async def close(self) -> None:
        for fleet in self._pods.values():
            await fleet.stop()


async def test_a_rolling_restart_fails_no_request() -> None:
    async with fake_kubernetes() as api:
        cluster = Cluster(api)
        names = [f"engine-{number}" for number in range(REPLICAS)]
        for name in names:
            await cluster.start(name)
        asked = {"kubernetes_service": "ns/engines", "kubernetes_api": api.url}
        try:
            async with proxied([], discovery=asked, probe={"interval_s": 0.2}) as proxy:
                assert len(proxy.app.router.replicas) == REPLICAS
                assert {replica.weight for replica in proxy.app.router.replicas} == {2.0}
                over, statuses = asyncio.Event(), Counter[int]()
                clients = [asyncio.create_task(_talk(proxy, n, over, statuses)) for n in range(6)]
                for index, name in enumerate(names):
                    await _restart(proxy, cluster, name)
                    if index == 2:
                        api.disconnect()
                    if index == 4:
                        api.compact()
                        api.disconnect()
                over.set()
                await asyncio.gather(*clients)
                await settled(proxy.app)
                ids = [replica.id for replica in proxy.app.router.replicas]
        finally:
            await cluster.close()
    print(f"{statuses.total()} requests during the restarts, by status: {dict(statuses)}")
    assert sorted(ids) == names
    assert set(statuses) == {200}
    assert statuses.total() > 3 * REPLICAS


async def _restart(proxy: Running, cluster: Cluster, name: str) -> None:
    """As a rollout does: drained by the proxy, ended, and begun again elsewhere."""
    router = proxy.app.router
    cluster.terminate(name)
    await eventually(lambda: name not in [replica.id for replica in router.replicas])
    await cluster.stop(name)
    await cluster.start(name)
    await eventually(lambda: any(r.id == name and r.up for r in router.replicas))


async def _talk(proxy: Running, number: int, over: asyncio.Event, statuses: Counter[int]) -> None:
    url = f"{proxy.url}/v1/chat/completions"
    headers = {"content-type": "application/json", "x-session-id": f"talk {number}"}
    messages = [{"role": "user", "content": f"{number} " + "word " * 2000}]
    async with aiohttp.ClientSession() as client:
        while not over.is_set():
            body = orjson.dumps({"model": "m", "max_tokens": 20, "messages": messages})
            async with client.post(url, data=body, headers=headers) as answer:
                await answer.read()
                statuses[answer.status] += 1
            messages += [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
            await asyncio.sleep(0.02)


def test_settings_without_any_replica_need_discovery() -> None:
    asked = {"file": "/etc/replicas.yaml"}
    assert Settings.model_validate({"discovery": asked}).replicas == ()
