import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.excerpt import excerpt, first_difference

SECRETS = [
    "sk-abcdefghijklmnopqrstuv",
    "Bearer abc.def.ghi123",
    "password = hunter22",
    "api_key: xyz987654",
]


def test_texts_are_lengths_and_digests() -> None:
    lines = excerpt({"role": "user", "content": "private"}, {"role": "user", "content": "other"})
    assert any(line.startswith('- "content": "<7 characters, ') for line in lines)
    assert any(line.startswith('+ "content": "<5 characters, ') for line in lines)
    assert "private" not in "".join(lines)
    assert ' "role": "user",' in "".join(lines)


def test_nothing_differs() -> None:
    assert excerpt({"a": [1, "x"]}, {"a": [1, "x"]}) == []


def test_texts_are_shown_on_request() -> None:
    lines = excerpt({"content": "one\ntwo\nthree"}, {"content": "one\n2\nthree"}, show_text=True)
    assert '-  "two",' in lines
    assert '+  "2",' in lines


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("show_text", [True, False])
def test_secrets_are_never_shown(secret: str, show_text: bool) -> None:
    value = secret.rsplit(maxsplit=1)[-1]
    lines = excerpt({"text": "before"}, {"text": f"it is {secret} there"}, show_text=show_text)
    assert value not in "".join(lines)


def test_bounded() -> None:
    one, other = [list(range(start, start + 500)) for start in (0, 1000)]
    lines = excerpt(one, other)
    assert len(lines) == 41
    assert lines[-1].endswith("more lines")
    long = excerpt({"name": "x" * 9000}, {"name": "y" * 9000})
    assert max(len(line) for line in long) <= 160


@given(st.text(max_size=20), st.text(max_size=5), st.text(max_size=5))
def test_where_two_texts_part(same: str, one: str, other: str) -> None:
    at = first_difference(same + one, same + other)
    assert at >= len(same)
    assert (same + one)[:at] == (same + other)[:at]
    if at < min(len(same + one), len(same + other)):
        assert (same + one)[at] != (same + other)[at]
