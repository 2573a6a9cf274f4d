import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.tokens import (
    SPECIAL_FIRST,
    SPECIAL_TOKENS,
    Special,
    StandInTokeniser,
    VocabularyTokeniser,
    ids_of,
    ids_to_bytes,
    render,
)

TOKENISER = StandInTokeniser()
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT)
def test_decode_inverts_encode(text):
    assert TOKENISER.decode(TOKENISER.encode(text)) == text


@given(TEXT, TEXT)
def test_different_texts_have_different_tokens(first, second):
    assert (first == second) == (TOKENISER.encode(first) == TOKENISER.encode(second))


@given(TEXT)
def test_four_bytes_a_token_and_never_a_special_one(text):
    ids = ids_of(TOKENISER.encode(text))
    assert len(ids) == -(-len(text.encode()) // 4)
    assert all(token < SPECIAL_FIRST for token in ids)


def test_known_ids():
    assert ids_of(TOKENISER.encode("hello world")) == [0x6C6C6568, 0x6F77206F, 0x00646C72]
    assert ids_of(TOKENISER.special("<|im_start|>")) == [SPECIAL_FIRST]


def test_special_tokens_are_told_apart_from_their_names_in_text():
    name = SPECIAL_TOKENS[0]
    assert render(TOKENISER, [name]) != render(TOKENISER, [Special(name)])
    assert TOKENISER.decode(render(TOKENISER, ["ab", Special(name), "é"])) == f"ab{name}é"


def test_text_starts_on_a_fresh_token_after_a_special_one():
    user = Special("<|user|>")
    short, long = (
        render(TOKENISER, ["a", user, "text"]),
        render(TOKENISER, ["abcdef", user, "text"]),
    )
    assert short[-8:] == long[-8:]


def test_ids_round_trip_and_are_bounded():
    assert ids_of(ids_to_bytes([0, 1, 2**32 - 1])) == [0, 1, 2**32 - 1]
    for wrong in ([-1], [2**32], ["a"], [1.5]):
        with pytest.raises(ValueError, match="token ids"):
            ids_to_bytes(wrong)


def test_a_missing_tokenizers_package_is_explained(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match="pip install tokenizers"):
        VocabularyTokeniser(str(tmp_path))


class FakeVocabulary:
    """The part of `tokenizers.Tokenizer` that is used: a token per word, one special token."""

    words = ("<|im_start|>", "a", "b")

    @classmethod
    def from_file(cls, path):
        return cls()

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        return type("Encoding", (), {"ids": [self.words.index(word) for word in text.split()]})

    def token_to_id(self, name):
        return self.words.index(name) if name in self.words else None

    def decode(self, ids, skip_special_tokens):
        assert not skip_special_tokens
        return " ".join(self.words[one] for one in ids)


def test_a_real_vocabulary(monkeypatch, tmp_path):
    package = type(sys)("tokenizers")
    package.Tokenizer = FakeVocabulary
    monkeypatch.setitem(sys.modules, "tokenizers", package)
    with pytest.raises(ValueError, match="not a file"):
        VocabularyTokeniser(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    tokeniser = VocabularyTokeniser(str(tmp_path))
    tokens = render(tokeniser, [Special("<|im_start|>"), "a b"])
    assert ids_of(tokens) == [0, 1, 2]
    assert tokeniser.decode(tokens) == "<|im_start|> a b"
