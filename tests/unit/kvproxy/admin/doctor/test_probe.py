import aiohttp

from kvproxy.admin.doctor.asking import Asker
from kvproxy.admin.doctor.look import look
from kvproxy.admin.doctor.probe import messages, probe
from loadgen.emulator import emulated
from tests.support.doctor import planted


async def test_the_second_time_finds_what_the_first_left() -> None:
    async with emulated(planted()) as [url], aiohttp.ClientSession() as session:
        asker = Asker(session, {})
        facts = await look(asker, url, "r0", 0.01, 0.01)
        await probe(asker, facts, messages())
        assert facts.probe is not None
        first, second = facts.probe.passes[-1]
        assert (first.cached_tokens, second.prompt_tokens) == (0, first.prompt_tokens)
        assert second.cached_tokens == (second.prompt_tokens - 1) // 16 * 16
        assert second.hits_delta == second.cached_tokens
        assert list(facts.probe.hashes) == [0]


async def test_a_refusal_is_told() -> None:
    async with emulated(planted()) as [url], aiohttp.ClientSession() as session:
        asker = Asker(session, {})
        facts = await look(asker, url, "r0", 0.01, 0.01)
        facts.models = ("another",)
        await probe(asker, facts, messages())
        assert facts.probe is not None
        assert "chat answered 404" in facts.probe.refusal
        facts.models, facts.probe = (), None
        await probe(asker, facts, messages())
        assert facts.probe is None


def test_prompts_are_new_from_their_first_words_on() -> None:
    assert messages()[0]["content"][:16] != messages()[0]["content"][:16]
