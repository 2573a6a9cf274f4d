import json

from loadgen.emulator.answers import DONE, Answer, Hits
from loadgen.emulator.completion_answers import CompletionWriter
from loadgen.emulator.replies import Reply
from loadgen.emulator.requests import Sampling
from loadgen.tokens import StandInTokeniser

HITS = Hits(prompt_tokens=2, cached_tokens=0, block_size=16)


def writer(**sampling: object) -> CompletionWriter:
    asked = Sampling("emu", 2, **sampling)
    replies = [Reply(said, said.encode(), "length") for said in ("Here the", "Also one")]
    answer = Answer("cmpl-1", 7, "emu", asked, [b"abcd", b"efgh"], replies)
    return CompletionWriter(answer, StandInTokeniser())


def chunk(data: bytes) -> dict:
    return json.loads(data.removesuffix(DONE).removeprefix(b"data: "))


def test_one_choice_for_every_prompt():
    whole = writer().whole(HITS)
    assert [choice["text"] for choice in whole["choices"]] == ["Here the", "Also one"]
    assert whole["usage"]["completion_tokens"] == 4


def test_the_stream_says_what_the_body_says():
    parts = [chunk(writer().tokens(HITS, 1, at, at + 1))["choices"][0] for at in range(2)]
    assert [part["text"] for part in parts] == ["Also", " one"]
    assert [part["finish_reason"] for part in parts] == [None, "length"]
    assert writer().closing(HITS) == DONE


def test_an_echoed_prompt_comes_first():
    assert writer(echo=True).whole(HITS)["choices"][1]["text"] == "efghAlso one"
    first, second = (chunk(writer(echo=True).tokens(HITS, 0, at, at + 1)) for at in range(2))
    assert [each["choices"][0]["text"] for each in (first, second)] == ["abcdHere", " the"]


def test_usage_when_asked_for():
    asked = writer(include_usage=True, continuous_usage=True)
    assert chunk(asked.tokens(HITS, 0, 0, 1))["usage"]["completion_tokens"] == 1
    assert chunk(asked.closing(HITS))["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert "usage" not in chunk(writer().tokens(HITS, 0, 0, 1))


def test_token_ids_when_asked_for():
    asked = writer(return_token_ids=True)
    first = chunk(asked.tokens(HITS, 0, 0, 1))["choices"][0]
    assert (len(first["prompt_token_ids"]), first["token_ids"]) == (1, [0x65726548])
    assert chunk(asked.tokens(HITS, 0, 1, 2))["choices"][0]["prompt_token_ids"] is None
