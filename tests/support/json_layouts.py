"""The same JSON value written in many ways: white space, escapes, key order."""

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
SPACES = st.sampled_from(["", "", "", " ", "\n", "\t ", "\r\n  "])


class Written(NamedTuple):
    text: bytes
    value: Any


def json_values(max_leaves: int = 8) -> st.SearchStrategy[Any]:
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXTS
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
        max_leaves=max_leaves,
    )


@st.composite
def written_json(
    draw: st.DrawFn,
    values: st.SearchStrategy[Any],
    plain_keys: bool = False,
    shuffle: bool = False,
) -> Written:
    """A value and one way to write it; `plain_keys` keeps escapes out of the outermost keys."""
    value = draw(values)
    text = draw(SPACES) + _write(draw, value, plain_keys, shuffle) + draw(SPACES)
    return Written(text.encode(), value)


def _write(draw: st.DrawFn, value: Any, plain_keys: bool, shuffle: bool) -> str:
    if isinstance(value, dict):
        items = list(value.items())
        if shuffle:
            items = draw(st.permutations(items))
        members = []
        for key, inner in items:
            name = json.dumps(key, ensure_ascii=False) if plain_keys else _write_text(draw, key)
            written = _write(draw, inner, False, shuffle)
            members.append(f"{name}{draw(SPACES)}:{draw(SPACES)}{written}{draw(SPACES)}")
        return "{" + draw(SPACES) + f",{draw(SPACES)}".join(members) + "}"
    if isinstance(value, list):
        elements = [_write(draw, inner, False, shuffle) + draw(SPACES) for inner in value]
        return "[" + draw(SPACES) + f",{draw(SPACES)}".join(elements) + "]"
    if isinstance(value, str):
        return _write_text(draw, value)
    return json.dumps(value)


def _write_text(draw: st.DrawFn, text: str) -> str:
    return json.dumps(text, ensure_ascii=draw(st.booleans()))
