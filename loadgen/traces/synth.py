"""Traces drawn from published distributions of real agentic coding sessions.

What is drawn per conversation or turn follows the quantiles below (of 710 recorded sessions with
48,658 requests); how a conversation moves follows what those do: it grows by small deltas, now
and then rewrites its last block or goes back a little, and on reaching its context limit starts
over from tools and system text with a large new prompt.
"""

from bisect import bisect_right
from collections.abc import Iterator
from math import exp, log
from pathlib import Path
from random import Random

import orjson

BLOCK_SIZE = 64
Quantiles = tuple[tuple[float, float], ...]

TURNS: Quantiles = ((0, 2), (0.05, 4), (0.25, 18), (0.5, 45), (0.75, 94), (0.95, 232), (1, 514))
FIRST_PROMPT: Quantiles = (
    (0, 11e3), (0.05, 13e3), (0.25, 18.6e3), (0.5, 24.5e3), (0.75, 104e3), (0.95, 375e3), (1, 852e3)
)  # fmt: skip
# The largest value is not the published one (697k): single turns that large are resumed sessions.
NEW_TOKENS: Quantiles = (
    (0, 46), (0.05, 128), (0.25, 300), (0.5, 600), (0.75, 1.3e3), (0.95, 4.5e3), (1, 40e3)
)  # fmt: skip
NEW_TOKENS_MEAN = 1500
# A short conversation grows to its largest prompt in large steps, a long one starts over instead.
PACE_MAX = 2.7
OUTPUT: Quantiles = (
    (0, 20), (0.05, 89), (0.25, 137), (0.5, 216), (0.75, 429), (0.95, 1543), (0.99, 2.6e3),
    (0.999, 6e3), (1, 18195),
)  # fmt: skip
# Most conversations are sat through, some are left for hours: long pauses come together.
SAT_THROUGH_S: Quantiles = (
    (0, 1), (0.05, 3), (0.25, 6), (0.5, 10), (0.75, 33), (0.95, 400), (0.97, 600), (0.995, 1.5e3),
    (1, 4e3),
)  # fmt: skip
LEFT_S: Quantiles = (
    (0, 1), (0.05, 3), (0.25, 6), (0.5, 10), (0.75, 38), (0.93, 464), (0.945, 600), (0.98, 4e3),
    (0.99, 30e3), (1, 77589),
)  # fmt: skip
LEFT_SHARE = 0.14
API_S: Quantiles = (
    (0, 1.5), (0.05, 3), (0.25, 4.3), (0.5, 6.1), (0.75, 10.3), (0.95, 28.5), (1, 300)
)  # fmt: skip
FIXED: Quantiles = (
    (0, 8e3), (0.05, 10.1e3), (0.25, 12.9e3), (0.5, 14.9e3), (0.75, 15.5e3), (0.95, 16.8e3),
    (1, 23.1e3),
)  # fmt: skip
RE_ENTRY: Quantiles = ((0, 22e3), (0.25, 40e3), (0.5, 76e3), (0.75, 110e3), (1, 180e3))
LIMIT: Quantiles = ((0, 130e3), (0.1, 150e3), (0.5, 166e3), (0.85, 200e3), (1, 400e3))
LARGEST: Quantiles = (
    (0, 30e3), (0.05, 48e3), (0.25, 112e3), (0.5, 145e3), (0.75, 175e3), (0.95, 300e3), (1, 600e3)
)  # fmt: skip

TOOL_RESULT_SHARE = 0.85
LAST_BLOCK_REWRITTEN_SHARE = 0.05
WENT_BACK_SHARE = 0.009
RESET_KEEPS_NOTHING_SHARE = 0.09
SUB_AGENTS_SHARE = 0.024
ASYNC_SHARE = 0.06


def draw(quantiles: Quantiles, random: Random) -> float:
    """A value whose logarithm is linear between the given quantiles."""
    at = random.random()
    index = min(bisect_right(quantiles, (at, float("inf"))), len(quantiles) - 1)
    (low, below), (high, above) = quantiles[index - 1], quantiles[index]
    share = (at - low) / (high - low)
    return exp(log(below) + share * (log(above) - log(below)))


def synthesise(conversations: int, seed: int) -> Iterator[dict[str, object]]:
    """Traces as JSON objects of the kv-cache-tester format, equal for equal seeds."""
    for number in range(1, conversations + 1):
        yield _Trace(number, Random(f"{seed} {number}")).build()


def write_traces(conversations: int, seed: int, directory: Path) -> list[Path]:
    """One file per conversation; returns them."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for trace in synthesise(conversations, seed):
        file = directory / f"{trace['id']}.json"
        file.write_bytes(orjson.dumps(trace))
        files.append(file)
    return files


class _Lane:
    """The prompt of a conversation as it grows: block ids, token count, fresh ids."""

    def __init__(self, next_id: int, prefix: list[int]) -> None:
        self.ids = list(prefix)
        self.tokens = 0
        self.next_id = next_id

    def grow_to(self, tokens: int, keep_blocks: int) -> None:
        """The prompt becomes `tokens` long and keeps at most `keep_blocks` of its blocks."""
        del self.ids[min(keep_blocks, tokens // BLOCK_SIZE) :]
        fresh = tokens // BLOCK_SIZE - len(self.ids)
        self.ids += range(self.next_id, self.next_id + fresh)
        self.next_id += fresh
        self.tokens = tokens


class _Trace:
    def __init__(self, number: int, random: Random) -> None:
        self._number = number
        self._random = random
        self._fixed = round(draw(FIXED, random))
        self._lane = _Lane(1, [])
        self._requests: list[dict[str, object]] = []
        self._pace = 1.0
        self._pauses = LEFT_S if random.random() < LEFT_SHARE else SAT_THROUGH_S

    def build(self) -> dict[str, object]:
        random, lane = self._random, self._lane
        turns = round(draw(TURNS, random))
        first = max(round(draw(FIRST_PROMPT, random)), self._fixed + 300)
        limit = max(draw(LIMIT, random), first * random.uniform(1.02, 1.3))
        grown = (draw(LARGEST, random) - first) / (max(1, turns - 1) * NEW_TOKENS_MEAN)
        self._pace = min(max(1.0, grown), PACE_MAX)
        agents_at = self._agents_at(turns)
        t = 0.0
        lane.grow_to(first, 0)
        for turn in range(turns):
            if turn:
                self._advance(limit)
            request = _request(lane, t, turn, random)
            self._requests.append(request)
            t += float(str(request["api_time"])) + draw(self._pauses, random)
            for _ in range(agents_at.count(turn)):
                self._requests.append(self._sub_agent(t))
        _think_from_starts(self._requests)
        return {
            "id": f"synth_{self._number:04d}",
            "models": ["synthetic"],
            "block_size": BLOCK_SIZE,
            "hash_id_scope": "local",
            "tool_tokens": round(self._fixed * 0.8),
            "system_tokens": self._fixed - round(self._fixed * 0.8),
            "requests": self._requests,
        }

    def _advance(self, limit: float) -> None:
        """The next prompt: longer by a delta, rewound a little, or reset at the limit."""
        random, lane = self._random, self._lane
        tokens = lane.tokens + round(self._pace * draw(NEW_TOKENS, random))
        keep = len(lane.ids)
        if tokens > limit:
            fixed = self._fixed // BLOCK_SIZE
            keep = 0 if random.random() < RESET_KEEPS_NOTHING_SHARE else fixed
            tokens = max(self._fixed + 300, round(min(draw(RE_ENTRY, random), 0.9 * limit)))
        elif random.random() < LAST_BLOCK_REWRITTEN_SHARE:
            keep -= 1
        elif random.random() < WENT_BACK_SHARE / (1 - LAST_BLOCK_REWRITTEN_SHARE):
            keep -= max(2, round(keep * random.uniform(0.005, 0.095)))
        lane.grow_to(tokens, max(0, keep))

    def _agents_at(self, turns: int) -> list[int]:
        if self._random.random() >= SUB_AGENTS_SHARE:
            return []
        return [self._random.randrange(turns) for _ in range(self._random.randint(1, 6))]

    def _sub_agent(self, t: float) -> dict[str, object]:
        random = self._random
        # Agents of one conversation open with the same tools and system text.
        fixed = round(0.65 * self._fixed)
        shared = range(1_000_000, 1_000_000 + fixed // BLOCK_SIZE)
        count = sum(entry["type"] == "subagent" for entry in self._requests)
        lane = _Lane(2_000_000 + 100_000 * count, list(shared))
        lane.grow_to(fixed + round(draw(NEW_TOKENS, random)), len(shared))
        requests: list[dict[str, object]] = []
        at = 0.0
        for turn in range(random.randint(4, 18)):
            if turn:
                lane.grow_to(lane.tokens + round(draw(NEW_TOKENS, random)), len(lane.ids))
            requests.append(_request(lane, at, turn, random))
            at += float(str(requests[-1]["api_time"])) + random.uniform(0.5, 6)
        _think_from_starts(requests)
        return {
            "t": round(t, 2),
            "type": "subagent",
            "agent_id": f"agent_{count + 1:03d}",
            "subagent_type": "Explore",
            "status": "async_launched" if random.random() < ASYNC_SHARE else "completed",
            "duration_ms": round(at * 1000),
            "requests": requests,
            "models": ["synthetic-small"],
            "tool_tokens": round(fixed * 0.8),
            "system_tokens": fixed - round(fixed * 0.8),
        }


def _request(lane: _Lane, t: float, turn: int, random: Random) -> dict[str, object]:
    tool = turn > 0 and random.random() < TOOL_RESULT_SHARE
    return {
        "t": round(t, 2),
        "type": "n",
        "model": "synthetic",
        "in": lane.tokens,
        "out": round(draw(OUTPUT, random)),
        "hash_ids": list(lane.ids),
        "input_types": ["tool_result" if tool else "text"],
        "output_types": ["text", "tool_use"],
        "stop": "tool_use",
        "api_time": round(draw(API_S, random), 2),
        "think_time": 0.0,
    }


def _think_from_starts(entries: list[dict[str, object]]) -> None:
    """Set each think time to the gap between the end of the request before and its start."""
    before_end = 0.0
    for entry in entries:
        if entry["type"] == "subagent":
            continue
        start = float(str(entry["t"]))
        entry["think_time"] = round(max(0.0, start - before_end), 2)
        before_end = start + float(str(entry["api_time"]))
