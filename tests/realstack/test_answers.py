"""Answers of a real engine are the same through kvproxy, byte for byte, and so are its refusals."""

import re

import orjson
import pytest

from tests.support.proxies import settled
from tests.support.realstack.answered import ANSWERED
from tests.support.realstack.engine import Engine
from tests.support.realstack.patience import patient
from tests.support.realstack.refused import REFUSED, REFUSED_BY_US
from tests.support.realstack.requests import Case
from tests.support.realstack.streams import told
from tests.support.wire import RawHeaders, WireAnswer, ask, end_to_end, request

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

# Drawn anew for every answer; the id of a chat follows from the x-request-id that we send.
_DRAWN = re.compile(
    rb'("(?:created|created_at|completed_at)":)[\d.]+'
    rb"|\b((?:chatcmpl-tool|call|resp|msg|rs|fc|modelperm|cmpl|chatcmpl)[-_])[0-9a-f]{16,32}"
    rb'|("(?:request_id|item_id|id)":")(?!chatcmpl-)[^"]*'
)
_OURS = (b"x-request-id", b"x-kvproxy-replica", b"date")
# The very first token of a stream may come with the next, and then a kind of event is missing.
_STREAMS_AT_MOST = 20
# Asked twice, one that draws its words says other things.
SURE = [case for case in ANSWERED if case.is_sure]


async def _ask(url: str, case: Case) -> WireAnswer:
    headers = {"x-request-id": f"fixed-{case.name}"} | case.headers
    return await ask(url, request(case.method, case.path, list(headers.items()), case.bytes()))


def _normal(body: bytes) -> bytes:
    return _DRAWN.sub(lambda match: next(filter(None, match.groups())), body)


def is_same(case: Case, through: WireAnswer, direct: WireAnswer) -> bool:
    """Byte for byte, but that tokens may share chunks of a stream in another way."""
    ours, theirs = _normal(through.body), _normal(direct.body)
    return told(ours) == told(theirs) if case.body.get("stream") else ours == theirs


def _headers(headers: RawHeaders) -> RawHeaders:
    kept = [pair for pair in end_to_end(headers) if pair[0] not in _OURS]
    return [(name, b"" if name == b"content-length" else value) for name, value in kept]


@pytest.mark.parametrize("case", [*SURE, *REFUSED], ids=lambda case: case.name)
async def test_answers_are_the_engines_own(engines: list[Engine], case: Case) -> None:
    engine = engines[0]
    if case in ANSWERED:
        # Usage tells what was cached, so both askers must find the same.
        await _ask(engine.url, case)
    async with patient([engine.url]) as (app, url):
        direct, through = await _ask(engine.url, case), await _ask(url, case)
        again = _STREAMS_AT_MOST if case.body.get("stream") else 0
        while again and not is_same(case, through, direct):
            direct, through = await _ask(engine.url, case), await _ask(url, case)
            again -= 1
        await settled(app)
    assert (direct.status == 200) == (case in ANSWERED), direct.body[:500]
    assert (through.complete, direct.complete) == (True, True)
    assert through.status == direct.status
    assert is_same(case, through, direct), (through.body, direct.body)
    assert _headers(through.headers) == _headers(direct.headers)
    assert through.header(b"x-kvproxy-replica") == engine.url.removeprefix("http://").encode()


@pytest.mark.parametrize("case", REFUSED_BY_US, ids=lambda case: case.name)
async def test_our_refusals_have_the_engines_form(engines: list[Engine], case: Case) -> None:
    """Same status, same type, same members; the message is ours."""
    direct = await _ask(engines[0].url, case)
    async with patient([engines[0].url]) as (_, url):
        through = await _ask(url, case)
    print(f"\n{case.name}:\n  engine  {direct.body[:300]!r}\n  kvproxy {through.body[:300]!r}")
    assert through.status == direct.status
    ours, theirs = (orjson.loads(answer.body) for answer in (through, direct))
    if case.path == "/v1/messages":
        # This engine names errors as it does elsewhere, or answers in the other dialect's shape;
        # clients of this one know Anthropic's.
        assert (ours["type"], ours["error"].keys()) == ("error", {"type", "message"})
        return
    assert ours["error"].keys() == theirs["error"].keys()
    assert ours["error"]["type"] == theirs["error"]["type"]
