import pytest

from tests.support.realstack.streams import told

HEAD = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def chunk(text: bytes, ids: bytes, tokens: int, index: int = 0, finish: bytes = b"null") -> bytes:
    return (
        b'data: {"choices":[{"index":%d,"delta":{"content":"%b"},"finish_reason":%b,"token_ids":'
        b'[%b]}],"usage":{"completion_tokens":%d}}\n\n' % (index, text, finish, ids, tokens)
    )


ONE_BY_ONE = HEAD + chunk(b"a", b"1", 1) + chunk(b"\\n", b"2", 2) + chunk(b"c", b"3", 3) + DONE


@pytest.mark.parametrize(
    "shared",
    [
        HEAD + chunk(b"a\\n", b"1,2", 2) + chunk(b"c", b"3", 3) + DONE,
        HEAD + chunk(b"a\\nc", b"1,2,3", 3) + DONE,
    ],
)
def test_tokens_may_share_chunks(shared: bytes) -> None:
    assert told(shared) == told(ONE_BY_ONE)


@pytest.mark.parametrize(
    "other",
    [
        HEAD + chunk(b"a\\n", b"1,2", 2) + chunk(b"x", b"3", 3) + DONE,
        HEAD + chunk(b"a\\n", b"1,2", 2) + chunk(b"c", b"4", 3) + DONE,
        HEAD + chunk(b"a\\nc", b"1,2,3", 4) + DONE,
        chunk(b"a\\nc", b"1,2,3", 3) + DONE,
        HEAD + chunk(b"a\\nc", b"1,2,3", 3),
        HEAD + chunk(b"a\\nc", b"1,2,3", 3, finish=b'"stop"') + DONE,
        HEAD + chunk(b"a\\n", b"1,2", 2) + chunk(b"c", b"3", 3, index=1) + DONE,
        HEAD + DONE + chunk(b"a\\nc", b"1,2,3", 3),
    ],
)
def test_nothing_else_may_differ(other: bytes) -> None:
    assert told(other) != told(ONE_BY_ONE)
