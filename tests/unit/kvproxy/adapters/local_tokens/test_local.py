import json
import logging
from array import array
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tokenizers import Tokenizer

from kvproxy.adapters.local_tokens.local import LocalTokens
from kvproxy.core.types import Chain
from tests.support.makers import make_chain
from tests.support.tokenizers_folder import write_folder

CHAT = "/v1/chat/completions"
WORDS = ["def", "return", "the", "a", "if", "token:", "éa", "日本", "x1", "\n", "", "(", "=="]
WORDS += ["<|im_start|>", "<|im"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("model"), [" ".join(WORDS)] * 50)


@pytest.fixture
def local(folder: Path) -> Iterator[LocalTokens]:
    made = LocalTokens({"m": str(folder)}, 2**20)
    made.start()
    yield made
    made.close()


def body(messages: list[dict[str, Any]]) -> bytes:
    return json.dumps({"model": "m", "messages": messages}).encode()


def whole(folder: Path, messages: list[dict[str, Any]]) -> list[int]:
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    tokeniser = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text += "<|im_start|>assistant\n"
    return list(tokeniser.encode(text, add_special_tokens=False).ids)


async def test_a_growing_conversation_is_tokenised_where_it_goes_on(
    local: LocalTokens, folder: Path
) -> None:
    """And has the very tokens that the whole of it has, special tokens in its texts included."""
    random, messages = Random(5), list[dict[str, Any]]()
    texts: list[bytes] = []
    resumed = []
    for turn in range(12):
        content = " ".join(random.choices(WORDS, k=random.randrange(60)))
        messages.append({"role": "assistant" if turn % 2 else "user", "content": content})
        texts.append(content.encode())
        if turn % 2:
            continue
        chain = make_chain(*texts)
        tokens = await local.tokens("m", CHAT, body(messages), chain)
        assert tokens == array("I", whole(folder, messages))
        resumed.append(local.resumed)
    assert resumed[0] == 0
    assert sorted(set(resumed)) == resumed, "each turn went on behind the one before"


async def test_another_text_at_the_same_place_is_no_beginning(
    local: LocalTokens, folder: Path
) -> None:
    chain = make_chain(b"same")
    first = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    other = [{"role": "user", "content": "if"}, {"role": "user", "content": "b"}]
    for messages in (first, other):
        tokens = await local.tokens("m", CHAT, body(messages), chain)
        assert tokens == array("I", whole(folder, messages))
    assert local.resumed == 0


@pytest.mark.parametrize(
    ("model", "path", "sent"),
    [
        ("other", CHAT, {"messages": []}),
        ("m", "/v1/messages", {"messages": []}),
        ("m", "/v1/completions", {"prompt": [1, 2]}),
        ("m", CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
    ],
)
async def test_what_the_engine_has_to_be_asked(
    local: LocalTokens, model: str, path: str, sent: dict[str, Any]
) -> None:
    assert await local.tokens(model, path, json.dumps(sent).encode(), Chain()) is None


@pytest.mark.parametrize(
    "sent",
    [
        # What Python's json reads and others do not.
        b'{"messages": [], "metadata": {"x": "\xed\xa0\x80"}}',
        b'{"messages": [], "metadata": {"x": 1e400}}',
        b'{"messages": ["a text"]}',
        b'{"messages": [], "chat_template_kwargs": [1]}',
        b'{"messages": [{"role": "user", "content": 3}]}',
    ],
)
async def test_what_a_body_says_oddly_is_said_once_and_the_engine_asked(
    local: LocalTokens, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert await local.tokens("m", CHAT, sent, Chain()) is None
    assert len(caplog.records) == 1


async def test_a_completion_is_tokenised_as_it_is(local: LocalTokens, folder: Path) -> None:
    sent = json.dumps({"prompt": "return the token:"}).encode()
    tokeniser = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert await local.tokens("m", "/v1/completions", sent, Chain()) == array(
        "I", tokeniser.encode("return the token:").ids
    )


def test_a_folder_that_is_none_is_named(tmp_path: Path, folder: Path) -> None:
    for content, said in ((None, "has no tokenizer.json"), ("{}", "tokenizer.json: ")):
        if content is not None:
            (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ValueError, match=said):
            LocalTokens({"m": str(tmp_path)}, 2**20).start()
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    with pytest.raises(ValueError, match="no chat template"):
        LocalTokens({"m": str(tmp_path)}, 2**20).start()


async def test_bytes_are_bounded(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = LocalTokens({"m": str(folder)}, 4096)
    made.start()
    with caplog.at_level(logging.DEBUG):
        for number in range(50):
            sent = body([{"role": "user", "content": "return " * 30}])
            await made.tokens("m", CHAT, sent, make_chain(f"{number}".encode()))
    assert made._begun.size_bytes <= 4096
    made.close()
