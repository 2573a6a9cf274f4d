import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kubernetes_asyncio import client

from kvproxy.adapters.discovery.reflector import Reflector
from tests.support.fake_kubernetes import FakeKubernetes, fake_kubernetes
from tests.support.proxies import eventually


@asynccontextmanager
async def reflected() -> AsyncIterator[tuple[FakeKubernetes, Reflector]]:
    async with fake_kubernetes() as fake:
        settings = client.Configuration()
        settings.host = fake.url
        async with client.ApiClient(settings) as api:
            lister = client.CoreV1Api(api).list_namespaced_pod
            reflector = Reflector(api, lister, {"namespace": "ns"}, lambda: None)
            fake.put("pods", "a")
            task = asyncio.create_task(reflector.run())
            await eventually(lambda: reflector.synced and fake.watches == 1)
            yield fake, reflector
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_what_is_added_changed_and_deleted_is_seen() -> None:
    async with reflected() as (fake, reflector):
        fake.put("pods", "b", metadata={"labels": {"x": "1"}})
        fake.put("pods", "b", metadata={"labels": {"x": "2"}})
        await eventually(
            lambda: reflector.objects.get("b", {}).get("metadata", {}).get("labels") == {"x": "2"}
        )
        fake.delete("pods", "a")
        await eventually(lambda: set(reflector.objects) == {"b"})
        assert reflector.lists == 1


async def test_a_watch_that_breaks_off_goes_on_where_it_was() -> None:
    async with reflected() as (fake, reflector):
        fake.bookmark("pods")
        fake.put("pods", "b")
        await eventually(lambda: "b" in reflector.objects)
        fake.disconnect()
        fake.put("pods", "c")
        await eventually(lambda: "c" in reflector.objects)
        assert reflector.lists == 1


async def test_what_is_too_far_back_is_listed_again() -> None:
    async with reflected() as (fake, reflector):
        fake.disconnect()
        fake.put("pods", "b")
        fake.compact()
        await eventually(lambda: "b" in reflector.objects)
        assert reflector.lists == 2
