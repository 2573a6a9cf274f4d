"""Plays conversations through a proxy, so many at a time, and keeps what was predicted and true."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import aiohttp

from tests.support.realstack.dialogue import TOOLS, Dialogue, library_text
from tests.support.realstack.engine import MODEL
from tests.support.realstack.shapes import Shape, Step

ANSWER_TOKENS_MAX = 24


@dataclass(frozen=True, slots=True)
class Asked:
    """One request and its truth, in tokens. `own` is what the prompt before it of the same
    conversation ended at, answer excluded; 0 at the start."""

    conversation: str
    turn: int
    replica: str
    prompt: int
    reported: int
    predicted: int
    own: int
    answer: int
    rewound: bool
    ttft_s: float
    sent_at: float
    ended_at: float

    @property
    def error(self) -> int:
        return self.reported - self.predicted

    def renamed(self, conversation: str) -> Self:
        return replace(self, conversation=conversation)


async def replay(
    url: str, shapes: Sequence[Shape], *, at_a_time: int, echo_live: bool, seed: int
) -> list[Asked]:
    """All requests in the order in which they were sent. A failed one fails the test."""
    waiting = list(reversed(shapes))
    text = library_text()
    asked: list[Asked] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=900)) as session:

        async def user() -> None:
            while waiting:
                player = _Player(url, session, waiting.pop(), text, seed)
                await player.play(echo_live, asked)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_a_time):
                group.create_task(user())
    return sorted(asked, key=lambda each: each.sent_at)


class _Player:
    def __init__(
        self, url: str, session: aiohttp.ClientSession, shape: Shape, text: str, seed: int
    ) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._session = session
        self._shape = shape
        self._dialogue = Dialogue(shape, text, seed)

    async def play(self, echo_live: bool, done: list[Asked]) -> None:
        own = 0
        steps = self._shape.steps
        for turn, step in enumerate(steps):
            messages, rewound = self._dialogue.prompt(step)
            said, asked = await self._ask(messages, step, turn, own, rewound)
            own = asked.prompt
            tool_next = turn + 1 < len(steps) and steps[turn + 1].tool_result
            self._dialogue.answered(said if echo_live else None, step, tool_next)
            done.append(asked)

    async def _ask(
        self, messages: list[dict[str, Any]], step: Step, turn: int, own: int, rewound: bool
    ) -> tuple[str, Asked]:
        body = {
            "model": MODEL,
            "messages": messages,
            "tools": TOOLS,
            "tool_choice": "none",
            "temperature": 0,
            "max_tokens": min(step.answer, ANSWER_TOKENS_MAX),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {"x-session-id": self._shape.name, "x-kvproxy-decision": "1"}
        sent_at = time.monotonic()
        first_at = 0.0
        said, usage = "", None
        async with self._session.post(self._url, json=body, headers=headers) as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                first_at = first_at or time.monotonic()
                chunk = json.loads(line[6:])
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    said += choice["delta"].get("content") or ""
            decision = json.loads(response.headers["x-kvproxy-decision"])
        assert usage is not None, "the stream ended without its usage"
        return said, Asked(
            conversation=self._shape.name,
            turn=turn,
            replica=decision["replica"],
            prompt=usage["prompt_tokens"],
            reported=usage["prompt_tokens_details"]["cached_tokens"],
            predicted=decision["predicted_cached_tokens"],
            own=own,
            answer=usage["completion_tokens"],
            rewound=rewound,
            ttft_s=first_at - sent_at,
            sent_at=sent_at,
            ended_at=time.monotonic(),
        )
