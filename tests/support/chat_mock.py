"""A chat endpoint whose every answer a test decides."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

Answer = Callable[[web.Request, dict[str, object]], Awaitable[web.StreamResponse]]


def chunk(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


def event(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def usage(prompt: int, completion: int, cached: int | None) -> bytes:
    details = None if cached is None else {"cached_tokens": cached}
    figures = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": details,
    }
    return event({"choices": [], "usage": figures})


async def stream(
    request: web.Request, parts: list[bytes], headers: dict[str, str] | None = None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"} | (headers or {}))
    await response.prepare(request)
    for part in parts:
        await response.write(part)
    await response.write_eof()
    return response


async def answer_well(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
    """Two chunks and a usage that counts 4 bytes of content a token, nothing cached."""
    messages = body["messages"]
    assert isinstance(messages, list)
    tokens = sum(len(message["content"]) // 4 for message in messages)
    parts = [chunk("one "), chunk("two "), usage(tokens, 2, 0), b"data: [DONE]\n\n"]
    return await stream(request, parts)


@dataclass(slots=True)
class ChatMock:
    """What was asked, and the answers still to come: the last one repeats. `asked` is set by the
    first request."""

    answers: list[Answer] = field(default_factory=lambda: [answer_well])
    bodies: list[dict[str, object]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    in_flight: int = 0
    in_flight_max: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.in_flight += 1
        self.asked.set()
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            return await answer(request, body)
        finally:
            self.in_flight -= 1

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "mock"}]})


@contextlib.asynccontextmanager
async def chat_mock(*answers: Answer) -> AsyncIterator[ChatMock]:
    mock = ChatMock()
    if answers:
        mock.answers = list(answers)
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", mock.chat)
    app.router.add_get("/v1/models", mock.models)
    server = TestServer(app)
    await server.start_server()
    mock.url = str(server.make_url("")).rstrip("/")
    try:
        yield mock
    finally:
        await server.close()


async def silence(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
    """Headers, and then nothing until the client goes away."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await asyncio.Event().wait()
    return response
