import asyncio
import os

import pytest

from loadgen.children import ChildError, kvproxy_child

EMULATE = ["emulate", "--replicas", "2", "--port", "0"]


def children() -> set[int]:
    """Processes of ours that still run, by pid."""
    me = os.getpid()
    found = set()
    for task in os.listdir(f"/proc/{me}/task"):
        with open(f"/proc/{me}/task/{task}/children") as listed:
            found |= {int(pid) for pid in listed.read().split()}
    return found


async def test_ready_urls_and_no_process_left() -> None:
    before = children()
    async with kvproxy_child(EMULATE, 2) as urls:
        assert len(set(urls)) == 2
        assert all(url.startswith("http://127.0.0.1:") for url in urls)
        assert len(children() - before) == 1
    assert children() <= before


async def test_the_child_ends_with_an_error_and_with_cancellation() -> None:
    before = children()
    with pytest.raises(RuntimeError, match="mine"):
        async with kvproxy_child(EMULATE, 2):
            raise RuntimeError("mine")
    assert children() <= before
    up = asyncio.Event()

    async def hold() -> None:
        async with kvproxy_child(EMULATE, 2):
            up.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await asyncio.wait_for(up.wait(), 20)
    task.cancel()
    await asyncio.wait([task])
    assert children() <= before


async def test_a_child_that_fails_tells_why() -> None:
    with pytest.raises(ChildError, match=r"(?s)emulate did not get ready.*--nonsense"):
        async with kvproxy_child(["emulate", "--nonsense"], 1):
            pass
