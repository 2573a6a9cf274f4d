"""Where token ids come from beside the events' stamps, held against a real engine."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from kvproxy.adapters.local_tokens.local import LocalTokens
from tests.realstack.test_answers import SURE, is_same
from tests.support.makers import make_chain
from tests.support.proxies import eventually, settled
from tests.support.realstack.dialogue import TOOLS, Dialogue, library_text
from tests.support.realstack.engine import MODEL, Engine
from tests.support.realstack.patience import WITHIN_S, patient
from tests.support.realstack.places import default_places
from tests.support.realstack.requests import MESSAGES, TOOL_TURNS, Case
from tests.support.realstack.shapes import shapes
from tests.support.wire import WireAnswer, ask, request

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

_ASKED = ("chat", "chat-stream-usage", "chat-tools", "completion", "completion-stream-usage")
# A stream's first token may come with the next: see test_answers.
_TRIES = 20


async def _ask(url: str, case: Case) -> WireAnswer:
    headers = {"x-request-id": f"fixed-{case.name}"} | case.headers
    return await ask(url, request(case.method, case.path, list(headers.items()), case.bytes()))


@pytest.mark.parametrize(
    "case", [case for case in SURE if case.name in _ASKED], ids=lambda case: case.name
)
async def test_the_client_sees_nothing_of_ids_that_were_asked_for(
    engines: list[Engine], case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines[0]
    await _ask(engine.url, case)
    async with patient([engine.url], tokens={"return_token_ids": True}) as (app, url):
        monkeypatch.setattr(app.sources.prompts, "wants", lambda replica: True)
        direct, through = await _ask(engine.url, case), await _ask(url, case)
        for _ in range(_TRIES):
            if is_same(case, through, direct):
                break
            direct, through = await _ask(engine.url, case), await _ask(url, case)
        assert is_same(case, through, direct), (through.body, direct.body)
        assert through.status == direct.status == 200
        await eventually(lambda: app.sources.prompts.counts.told >= 1, WITHIN_S)
        assert app.sources.prompts.counts.asked == app.sources.prompts.counts.unlike == 0
        await settled(app)


async def _tokenize(url: str, body: dict[str, Any]) -> list[int]:
    headers = [("content-type", "application/json")]
    answer = await ask(url, request("POST", "/tokenize", headers, orjson.dumps(body)))
    tokens: list[int] = orjson.loads(answer.body)["tokens"]
    return tokens


async def test_what_is_tokenised_here_has_the_engines_tokens(engines: list[Engine]) -> None:
    """Turn by turn, each from where the one before ended."""
    model: Path = default_places().model
    local = LocalTokens({MODEL: str(model)}, 2**26)
    local.start()
    chosen, _ = shapes(divide_by=20, prompt_max=4000, steps_max=8, requests=24, seed=1)
    asked = 0
    for shape in chosen:
        dialogue = Dialogue(shape, library_text(), 1)
        for turn, step in enumerate(shape.steps):
            messages, _ = dialogue.prompt(step)
            body = {"model": MODEL, "messages": messages, "tools": TOOLS}
            chain = make_chain(*(orjson.dumps(message) for message in messages))
            here = await local.tokens(MODEL, "/v1/chat/completions", orjson.dumps(body), chain)
            assert here is not None
            assert here.tolist() == await _tokenize(engines[0].url, body)
            asked += len(here)
            tool_next = turn + 1 < len(shape.steps) and shape.steps[turn + 1].tool_result
            dialogue.answered(None, step, tool_next)
    for messages in (MESSAGES, TOOL_TURNS):
        body = {"model": MODEL, "messages": messages, "chat_template_kwargs": {"x": 1}}
        here = await local.tokens(
            MODEL, "/v1/chat/completions", orjson.dumps(body), make_chain(orjson.dumps(body))
        )
        assert here is not None
        assert here.tolist() == await _tokenize(engines[0].url, body)
    print(f"\n{local.resumed} of {asked} tokens were known from the turn before")
    assert local.resumed > asked / 3
    local.close()
