"""Sessions as agents have them: a main conversation, sub-agents, short calls beside it."""

import pytest

from kvproxy.core.blocks import extend
from kvproxy.core.breaks import Cause
from kvproxy.core.dialects.prompt import message
from kvproxy.core.segments import segment
from kvproxy.core.threads import Step, Threads
from kvproxy.core.types import Chain, Identity
from tests.support.makers import make_random_chain
from tests.support.memory import assert_counted, taken


def prompt(system: str, *texts: str, tools: int = 2) -> Chain:
    chain = Chain(1)
    declared = [segment("tools", [b"tool %d" % n]) for n in range(tools)]
    said = [
        message(("user", "assistant")[n % 2], [(text * 50).encode()])
        for n, text in enumerate(texts)
    ]
    extend(chain, [message("system", [system.encode()]), *declared, *said], 64)
    return chain


def follow(threads: Threads, chain: Chain, agent: str = "", session: str = "s") -> Step:
    step = threads.follow(Identity("t", "m", session, agent), chain)
    assert step is not None
    return step


def test_a_conversation_is_one_thread() -> None:
    threads = Threads(2**20)
    texts = ["a", "b", "c", "d", "e"]
    for turns in range(1, 6):
        step = follow(threads, prompt("main", *texts[:turns]))
        assert (step.thread.number, step.thread.turns, step.cause) == (0, turns, None)


def test_calls_beside_it_do_not_break_it() -> None:
    threads = Threads(2**20)
    main = ["a", "b", "c"]
    follow(threads, prompt("main", *main))
    title = follow(threads, prompt("Write a title.", "a", "x", tools=0))
    assert follow(threads, prompt("main", *main, "d")).thread.number == 0
    again = follow(threads, prompt("Write a title.", "b2", "x2", tools=0))
    assert title.thread.number in (0, 1)
    assert again.cause is None or again.thread.number != 0


@pytest.mark.parametrize("first", [True, False], ids=["title first", "title later"])
def test_a_title_of_the_first_message_breaks_nothing(first: bool) -> None:
    threads = Threads(2**20)
    title = prompt("Write a title.", "a", tools=0)
    asked = [prompt("main" * 200, *turns) for turns in ("a", "abc")]
    steps = [follow(threads, each) for each in ([title, *asked] if first else [asked[0], title])]
    steps.append(follow(threads, asked[1]))
    assert [step.cause for step in steps] == [None] * len(steps)
    # What goes on is the conversation, whatever was asked beside it.
    assert steps[-1].before is not None
    assert steps[-1].broke is not None
    assert steps[-1].broke.cause is Cause.GROWN


def test_a_summary_under_another_head_is_told_and_its_conversation_goes_on() -> None:
    threads = Threads(2**20)
    follow(threads, prompt("main", *"abcdefgh"))
    step = follow(threads, prompt("Summarise.", *"abcdefghs", tools=0))
    assert (step.cause, step.thread.number, step.thread.parent) == (Cause.OTHER_HEAD, 1, 0)
    assert follow(threads, prompt("main", *"abcdefghi")).cause is None


def test_sub_agents_are_threads_of_their_own() -> None:
    threads = Threads(2**20)
    follow(threads, prompt("main", "a", "b"))
    one = follow(threads, prompt("explore", "x"), agent="one")
    other = follow(threads, prompt("explore", "y"), agent="two")
    assert (one.thread.number, one.thread.parent, one.before) == (1, 0, None)
    assert other.thread.number == 2
    assert follow(threads, prompt("explore", "x", "z"), agent="one").thread.number == 1
    assert follow(threads, prompt("main", "a", "b", "c")).cause is None


def test_a_fork_goes_on_from_what_it_shares() -> None:
    threads = Threads(2**20)
    follow(threads, prompt("main", "a", "b", "c", "d"))
    step = follow(threads, prompt("main", "a", "b", "other", "d", "e"))
    assert step.cause is Cause.HISTORY_EDITED
    assert step.broke is not None
    assert step.broke.segment == 5


def test_compaction_is_told_and_goes_on() -> None:
    threads = Threads(2**20)
    follow(threads, prompt("main", *"abcdefgh"))
    step = follow(threads, prompt("main", "S"))
    assert (step.cause, step.thread.number, step.thread.parent) == (Cause.COMPACTION, 1, 0)
    assert follow(threads, prompt("main", "S", "next")).cause is None


def test_what_was_no_compaction_after_all_goes_on_too() -> None:
    threads = Threads(2**20)
    follow(threads, prompt("main", *"abcdefgh"))
    follow(threads, prompt("main", "short"))
    step = follow(threads, prompt("main", *"abcdefghi"))
    assert (step.cause, step.thread.number) == (None, 0)


def test_sessions_and_tenants_know_nothing_of_each_other() -> None:
    threads = Threads(2**20)
    follow(threads, prompt("main", "a"))
    assert follow(threads, prompt("main", "b"), session="other").before is None
    elsewhere = threads.follow(Identity("u", "m", "s"), prompt("main", "a"))
    assert elsewhere is not None
    assert elsewhere.before is None


def test_without_a_session_or_a_prompt_there_is_nothing_to_follow() -> None:
    threads = Threads(2**20)
    assert threads.follow(Identity("t", "m", ""), prompt("main", "a")) is None
    assert threads.follow(Identity("t", "m", "s"), Chain(1)) is None
    assert len(threads) == 0


def test_bounded() -> None:
    threads = Threads(20_000)
    for session in range(100):
        for agent in range(30):
            follow(threads, prompt("main", f"{agent}"), agent=str(agent), session=str(session))
    assert 0 < len(threads) < 10
    assert all(len(kept) <= 16 for kept, _ in threads._sessions._entries.values())


@pytest.mark.parametrize(("blocks", "messages", "agents"), [(4, 4, 1), (40, 20, 1), (40, 20, 8)])
def test_what_is_counted_is_what_is_taken(blocks: int, messages: int, agents: int) -> None:
    def make() -> Threads:
        threads = Threads(2**30)
        for number in range(300):
            for agent in range(agents):
                who = Identity("", "m", f"a session's name, {number:08}", str(agent))
                threads.follow(who, make_random_chain(blocks, messages))
        return threads

    threads, real = taken(make)
    assert_counted(real, threads._sessions.size_bytes)
