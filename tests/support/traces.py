"""Traces made for tests: by hand, and at random with the sharing of real ones."""

import json
from collections.abc import Sequence

from hypothesis import strategies as st

from loadgen.traces.model import BlockIds, SubAgent, Trace, Turn


def turn(tokens: int, ids: Sequence[int], size: int = 16, **extra: object) -> Turn:
    """A turn of `tokens`, of which `ids` name the whole blocks."""
    assert len(ids) == tokens // size, f"{len(ids)} ids for {tokens} tokens"
    fields = {"t_s": 0.0, "output_tokens": 8} | extra
    return Turn(input_tokens=tokens, blocks=BlockIds.of(ids), **fields)  # type: ignore[arg-type]


def trace(
    turns: Sequence[Turn | SubAgent], name: str = "t", size: int = 16, fixed: int = 20
) -> Trace:
    return Trace(name, size, fixed, tuple(turns))


def growing(name: str, lengths: Sequence[int], size: int = 16, first_id: int = 1) -> Trace:
    """Each prompt extends the one before."""
    turns = [turn(n, range(first_id, first_id + n // size), size) for n in lengths]
    return trace(turns, name, size)


def weka(**fields: object) -> dict[str, object]:
    """A small valid file content of the kv-cache-tester format, with `fields` replaced."""
    requests = [
        {"t": 0, "type": "n", "in": 130, "out": 10, "hash_ids": [1, 2], "api_time": 2.0},
        {"t": 12, "type": "n", "in": 200, "out": 5, "hash_ids": [1, 2, 3], "api_time": 1.0,
         "think_time": 10.0, "input_types": ["tool_result"]},
    ]  # fmt: skip
    return {
        "id": "trace_1", "models": ["m"], "block_size": 64, "hash_id_scope": "local",
        "tool_tokens": 60, "system_tokens": 20, "requests": requests,
    } | fields  # fmt: skip


def weka_bytes(**fields: object) -> bytes:
    return json.dumps(weka(**fields)).encode()


@st.composite
def random_traces(draw: st.DrawFn, size: int = 16, turns_max: int = 10) -> Trace:
    """Conversations that grow, shrink, rewind, return to older branches and start over.

    An id stands for a whole prefix: equal prefixes get equal ids, as in real traces.
    """
    ids: dict[tuple[int, int], int] = {}
    turns: list[Turn] = []
    path: list[int] = []
    for _ in range(draw(st.integers(1, turns_max))):
        if turns:
            older = list(draw(st.sampled_from(turns)).blocks)
            base = draw(st.sampled_from([path, path, path, older]))
            path = base[: draw(st.integers(0, len(base)))] if draw(st.booleans()) else list(base)
        for label in draw(st.lists(st.integers(0, 2), max_size=6)):
            before = path[-1] if path else 0
            path.append(ids.setdefault((before, label), len(ids) + 1))
        tokens = len(path) * size + draw(st.integers(0, size - 1))
        output = draw(st.integers(0, 40))
        tool = draw(st.booleans())
        turns.append(turn(tokens, path, size, output_tokens=output, tool_result=tool))
    return trace(turns, size=size, fixed=draw(st.integers(0, 60)))
