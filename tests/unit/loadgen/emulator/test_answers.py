from loadgen.emulator.answers import Answer, Hits, sse, usage, whole_usage
from loadgen.emulator.replies import Reply
from loadgen.emulator.requests import Sampling

HITS = Hits(prompt_tokens=100, cached_tokens=64, block_size=16)
TWO_TO_EACH = Sampling("emu", 2, count=2, return_token_ids=True)


def answer(sampling: Sampling) -> Answer:
    replies = [Reply("Here the", b"Here the", "length") for _ in range(4)]
    return Answer("x-1", 7, "emu", sampling, [b"abcd" * 3, b"efgh"], replies)


def test_created_are_the_full_blocks_that_were_not_found():
    assert HITS.created_tokens == 32
    assert Hits(100, 99, 16).created_tokens == 0


def test_replies_belong_to_prompts_in_turns():
    one = answer(TWO_TO_EACH)
    assert [one.prompt(at) for at in range(4)] == [b"abcd" * 3] * 2 + [b"efgh"] * 2
    assert one.generated_tokens == 8


def test_token_ids_only_when_asked_for():
    one = answer(TWO_TO_EACH)
    assert one.token_ids(0, 0, 2) == [0x65726548, 0x65687420]
    assert (len(one.prompt_token_ids()), len(one.prompt_token_ids(2))) == (3, 1)
    other = answer(Sampling("emu", 2, count=2))
    assert other.token_ids(0, 0, 2) is other.prompt_token_ids() is None


def test_usage_adds_up():
    assert usage(HITS, 2) == {"prompt_tokens": 100, "total_tokens": 102, "completion_tokens": 2}
    details = whole_usage(HITS, 2, HITS.created_tokens)["prompt_tokens_details"]
    assert (details["cached_tokens"], details["created_cache_tokens"]) == (64, 32)


def test_events():
    assert sse({"a": 1}) == b'data: {"a":1}\n\n'
    assert sse({"a": 1}, "ping") == b'event: ping\ndata: {"a":1}\n\n'
