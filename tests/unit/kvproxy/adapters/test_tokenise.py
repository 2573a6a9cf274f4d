from array import array

import aiohttp
import pytest
from aiohttp import web

from kvproxy.adapters.tokenise import Tokenise
from kvproxy.core.tokenise import NoPageError, Question
from tests.support.makers import make_replica


async def test_a_replica_is_asked_with_its_key() -> None:
    seen: list[tuple[str, bytes, str | None]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append((request.path, await request.read(), request.headers.get("authorization")))
        status = {1: 200, 2: 404}.get(len(seen), 503)
        return web.json_response({"count": 2, "tokens": [7, 8]}, status=status)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    replica = make_replica("r")
    replica.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    asked = Tokenise(2.0, {"r": "secret"})
    await asked.start()
    try:
        assert await asked.tokens(replica, Question("/tokenize", b"{}")) == array("I", [7, 8])
        assert seen == [("/tokenize", b"{}", "Bearer secret")]
        with pytest.raises(NoPageError, match="/tokenize answered 404"):
            await asked.tokens(replica, Question("/tokenize", b"{}"))
        # What may pass is no answer.
        with pytest.raises(aiohttp.ClientResponseError):
            await asked.tokens(replica, Question("/tokenize", b"{}"))
    finally:
        await asked.close()
        await runner.cleanup()
