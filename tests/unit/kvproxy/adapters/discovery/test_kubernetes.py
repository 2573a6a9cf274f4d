import asyncio

from kvproxy.adapters.discovery.kubernetes import KubernetesSource
from kvproxy.core.discovered import Entries
from tests.support.fake_kubernetes import endpoint, fake_kubernetes, slice_of
from tests.support.proxies import eventually


async def test_a_service_becomes_entries_and_a_selector_narrows_it() -> None:
    found: list[Entries] = []
    async with fake_kubernetes() as fake:
        for name, role in (("a", "decode"), ("b", "prefill")):
            fake.put("pods", name, metadata={"labels": {"role": role}})
        ends = [endpoint("a", "10.0.0.1"), endpoint("b", "10.0.0.2")]
        fake.put("endpointslices", "s", **slice_of(ends, 8000))
        source = KubernetesSource("ns/engines", selector="role=decode", api_url=fake.url)
        task = asyncio.create_task(source.run(found.append))
        await eventually(lambda: len(found) == 1)
        assert found[0] == [{"url": "http://10.0.0.1:8000", "id": "a"}]
        ends[0] = endpoint("a", "10.0.0.1", terminating=True)
        fake.put("endpointslices", "s", **slice_of(ends, 8000))
        await eventually(lambda: len(found) == 2)
        assert found[1] == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
