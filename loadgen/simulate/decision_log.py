"""Reads decision logs: when who asked what, and what was decided and reported then.

A proxy's blocks are bytes, an engine's are tokens. Token counts are known at the end of every
prompt, from the engine's own figures; between two known places they grow with the text. What is
known of a block holds for every prompt that has it, so that prompts which share bytes share tokens.
"""

from array import array
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from kvproxy.core.types import Identity
from loadgen.simulate.prompts import Commons, Prompt

VERSION = 1
_MASK = 2**64 - 1
_ODD = 0x9E3779B97F4A7C15


class Line(msgspec.Struct):
    """What is used of a line; a first line has `kvproxy_decisions` alone."""

    kvproxy_decisions: int = 0
    n: int = 0
    at: float = 0.0
    tenant: str = ""
    session: str = ""
    agent: str = ""
    parent: str = ""
    model: str = ""
    evidence: str = ""
    replica: str = ""
    hbm_tokens: int = 0
    predicted: int = 0
    prompt_tokens: int = 0
    cached: int | None = None
    completion_tokens: int = 0
    ttft_s: float | None = None
    base: int | None = None
    keep: int = 0
    blocks: str = ""
    text_bytes: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """`at_s` from the first one on. `predicted`, `cached` and `ttft_s` are those recorded."""

    at_s: float
    identity: Identity
    prompt: Prompt
    output_tokens: int
    replica: str
    hbm_tokens: int
    predicted: int
    cached: int | None
    ttft_s: float | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """`left_out`: lines that are no whole answered prompt, of those `damaged` no line at all."""

    arrivals: list[Arrival]
    left_out: int
    damaged: int

    def conversations(self) -> int:
        return len({each.identity.key for each in self.arrivals})

    def replicas(self) -> int:
        return len({each.replica for each in self.arrivals})

    def hbm_tokens(self) -> int:
        """Of the smallest replica: what is typical where they differ is anybody's guess."""
        return min((each.hbm_tokens for each in self.arrivals if each.hbm_tokens), default=0)

    def told(self) -> str:
        """What was reported when it happened, in one line."""
        known = [each for each in self.arrivals if each.cached is not None]
        total = sum(each.prompt.tokens for each in known) or 1
        cached = sum(each.cached or 0 for each in known)
        predicted = sum(each.predicted for each in known)
        waits = sorted(each.ttft_s for each in self.arrivals if each.ttft_s is not None)
        ttft = f"{sum(waits) / len(waits):.2f}" if waits else "–"
        return (
            f"as recorded: {len(self.arrivals):,} requests, hit {100 * cached / total:.1f} %, "
            f"predicted {100 * predicted / total:.1f} %, ttft mean {ttft} s"
        )


class LogError(ValueError):
    """The file is no decision log, or nothing in it can be replayed."""


def files_of(path: Path) -> list[Path]:
    """The file and those it has replaced (.1, .2, …), oldest first."""
    older = [
        (int(found.name.rpartition(".")[2]), found)
        for found in path.parent.glob(f"{path.name}.*")
        if found.name.rpartition(".")[2].isdigit()
    ]
    return [found for _, found in sorted(older, reverse=True)] + [path]


def read(path: Path, block_size: int) -> Recorded:
    """Raises LogError."""
    tokens, arrivals = _Tokens(block_size), list[Arrival]()
    left_out = damaged = 0
    commons = Commons()
    for line, hashes, text in _chains(path):
        if line is None:
            damaged += 1
        if line is None or hashes is None or not line.prompt_tokens or not hashes:
            left_out += 1
            continue
        blocks = tokens.blocks(hashes, text, line.prompt_tokens)
        identity = Identity(
            line.tenant, line.model, line.session, line.agent, line.parent, line.evidence
        )
        prompt = commons.of(Prompt(blocks, line.prompt_tokens, 0), identity.key)
        arrivals.append(
            Arrival(
                line.at,
                identity,
                prompt,
                max(1, line.completion_tokens),
                line.replica,
                line.hbm_tokens,
                line.predicted,
                line.cached,
                line.ttft_s,
            )
        )
    if not arrivals:
        raise LogError(f"{path}: holds no answered prompt that can be replayed")
    arrivals.sort(key=lambda each: each.at_s)
    began = arrivals[0].at_s
    shifted = [replace(each, at_s=each.at_s - began) for each in arrivals]
    return Recorded(shifted, left_out, damaged)


def _chains(path: Path) -> Iterator[tuple[Line | None, "array[int] | None", "array[int]"]]:
    """Every line with its chain; no line where it is damaged, no chain where its base is lost."""
    decoder = msgspec.json.Decoder(Line)
    for file in files_of(path):
        known: dict[int, tuple[array[int], array[int]]] = {}
        began = False
        with file.open("rb") as lines:
            for raw in lines:
                if not raw.strip():
                    continue
                try:
                    line = decoder.decode(raw)
                    hashes, text = array("Q", b64decode(line.blocks)), array("I")
                    text.frombytes(b64decode(line.text_bytes))
                except ValueError:
                    if not began:
                        raise LogError(f"{file}: is no decision log") from None
                    yield None, None, array("I")
                    continue
                if line.kvproxy_decisions:
                    if line.kvproxy_decisions != VERSION:
                        raise LogError(f"{file}: version {line.kvproxy_decisions} is not known")
                    known, began = {}, True
                    continue
                if not began:
                    raise LogError(f"{file}: is no decision log")
                base = known.get(line.base) if line.base is not None else None
                if line.keep and base is None:
                    yield line, None, text
                    continue
                if base is not None:
                    hashes, text = base[0][: line.keep] + hashes, base[1][: line.keep] + text
                known[line.n] = (hashes, text)
                yield line, hashes, text


class _Tokens:
    """Token counts at the ends of a proxy's blocks, and an engine's blocks made from them."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._ends: dict[int, float] = {}

    def blocks(self, hashes: "array[int]", text: "array[int]", prompt_tokens: int) -> "array[int]":
        """Digests of the engine's whole blocks: two prompts have one in common if they have all
        of the bytes up to its end in common."""
        known = len(hashes)
        while known and hashes[known - 1] not in self._ends:
            known -= 1
        tokens = min(self._ends[hashes[known - 1]], prompt_tokens) if known else 0.0
        before = text[known - 1] if known else 0
        rate = (prompt_tokens - tokens) / max(1, text[-1] - before)
        for at in range(known, len(hashes)):
            self._ends[hashes[at]] = tokens + rate * (text[at] - before)
        found, end = array("Q"), self._block_size
        for digest in hashes:
            while end <= self._ends[digest] and end <= prompt_tokens:
                found.append((digest ^ end * _ODD) & _MASK)
                end += self._block_size
        return found
