"""A prompt computed by one real vLLM and answered by another: KV travels through NIXL, on the CPU.

`remote_kv_source`, Mooncake, LMCache PD, P2P-NCCL and SGLang need what no CPU build has.
"""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from tests.support.proxies import Running, settled
from tests.support.realstack.engine import MODEL, Engine
from tests.support.realstack.patience import patient

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="session"),
]
WORDS = " ".join(f"word {number * 7919 % 10_007}" for number in range(600))
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": WORDS}], "max_tokens": 6}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": WORDS, "max_tokens": 6},
    "/v1/messages": CHAT,
    "/v1/responses": {"input": WORDS, "max_output_tokens": 6},
}


@pytest_asyncio.fixture(params=[False, True], ids=["", "tokens"], loop_scope="session")
async def split(handing: list[Engine], request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """The first replica computes, the second one answers."""
    first, second = (engine.url for engine in handing)
    replicas = [{"url": first, "role": "prefill"}, {"url": second, "role": "decode"}]
    disagg = {"connector": "nixl", "mode": "always", "min_tokens": 256}
    disagg["hand_on_tokens"] = request.param
    async with patient([], replicas=replicas, disagg=disagg) as running:
        yield running
        await settled(running.app)


async def ask(url: str, path: str, **more: Any) -> bytes:
    body = {"model": MODEL, "temperature": 0, **BODIES[path], **more}
    async with (
        aiohttp.ClientSession() as client,
        client.post(url + path, json=body) as response,
    ):
        answer = await response.read()
        assert response.status == 200, answer
        return answer


async def travelled(engine: Engine) -> dict[str, float]:
    """Tokens of prompts by where they came from."""
    async with aiohttp.ClientSession() as client, client.get(f"{engine.url}/metrics") as response:
        page = await response.text()
    name = "vllm:prompt_tokens_by_source_total{"
    lines = [line for line in page.splitlines() if line.startswith(name)]
    return {line.split('source="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", list(BODIES))
async def test_the_prompt_comes_from_the_other_replica(
    handing: list[Engine], split: Running, path: str, stream: bool
) -> None:
    app, url = split
    before = await travelled(handing[1])
    answer = await ask(url, path, **({"stream": True} if stream else {}))
    after = await travelled(handing[1])
    came = after["external_kv_transfer"] - before["external_kv_transfer"]
    computed = after["local_compute"] - before["local_compute"]
    print(f"{path}: {came:.0f} tokens of KV came, {computed:.0f} were computed")
    assert app.legs is not None
    assert app.legs.outcomes == {"remote": 1}
    assert came > 1000
    assert computed <= 1
    if path == "/v1/chat/completions" and not stream:
        plain = orjson.loads(await ask(handing[0].url, path))
        assert orjson.loads(answer)["choices"] == plain["choices"]
