"""Whatever a body is, kvproxy answers for itself: never with a 500 of its own."""

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.core.hot_prefixes import HotPrefixes
from tests.fuzz.__main__ import read
from tests.fuzz.bodies import PATHS, Case, corpus, mutated
from tests.support.makers import make_reader
from tests.support.proxies import proxied, settled
from tests.support.recording import recording
from tests.support.wire import connected, post, read_answer

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "name", "input", "id"]) | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_NAMES = ("model", "messages", "prompt", "input", "system", "tools", "stream", "instructions")


@pytest.mark.parametrize("case", corpus(), ids=lambda case: case.path)
def test_the_corpus_is_read_or_refused(case: Case) -> None:
    reader, hot = make_reader(), HotPrefixes(2**20)
    for path in PATHS:
        read(reader, hot, Case(path, case.body))
        read(reader, hot, Case(path, case.body))


@given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=6))
@settings(max_examples=200, deadline=None)
def test_any_json_is_read_or_refused(path: str, body: dict[str, object]) -> None:
    read(make_reader(), HotPrefixes(2**20), Case(path, json.dumps(body).encode()))


async def test_no_body_is_an_error_of_the_proxys_own(request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("hypothesis_seed")
    print(f"seed {seed}")
    random, cases = Random(seed), corpus()
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        for number in range(200):
            case = cases[number] if number < len(cases) else mutated(random, cases)
            async with connected(url) as (reader, writer):
                writer.write(post(case.body, case.path))
                got = await read_answer(reader, "POST")
            assert got.status in (200, 400, 404, 413), (case, got.status, got.body)
        await settled(app)
