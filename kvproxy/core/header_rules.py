"""Which headers of a message may go on, beside what its connection needs: as operators say.

A rule is a name, or the beginning of names with a `*` behind it. Names alone cost nothing: they are
left out in the same pass that leaves out the headers of one hop.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvproxy.core.headers import LOWERED

_Headers = Sequence[tuple[bytes, bytes]]

# Without these nobody could read the message, whatever the rules say.
NEEDED = frozenset(
    {
        *("connection", "content-encoding", "content-length", "content-type", "host"),
        *("sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-key"),
        *("sec-websocket-protocol", "sec-websocket-version", "transfer-encoding", "upgrade"),
    }
)


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """`without`: names in lower case that do not go on, for end_to_end(). Where `sifts`, headers
    pass sifted() before that: names are dropped by their beginnings, or only some are let pass."""

    without: frozenset[bytes] = frozenset()
    beginnings: tuple[bytes, ...] = ()
    only: frozenset[bytes] | None = None
    only_beginnings: tuple[bytes, ...] = ()
    sifts: bool = False

    def sifted(self, headers: _Headers) -> _Headers:
        return [pair for pair in headers if self._passes(LOWERED[pair[0]])]

    def hides(self, name: bytes) -> bool:
        """Whether a header of that name, in lower case, does not go on."""
        return name in self.without or not self._passes(name)

    def _passes(self, name: bytes) -> bool:
        if self.beginnings and name.startswith(self.beginnings):
            return False
        return self.only is None or name in self.only or name.startswith(self.only_beginnings)


# What goes on is for each hop's own rules alone.
ALL_PASS = HeaderRules()


def header_rules(
    drop: Iterable[str] = (), only: Iterable[str] = (), without: Iterable[str] = ()
) -> HeaderRules:
    """`drop` and `only` as an operator says them, `only` empty for all; `without` goes in no case.
    What is NEEDED passes `only` unsaid."""
    names, beginnings = _split(drop)
    dropped = frozenset(name.encode() for name in without) | names
    if not (passing := tuple(only)):
        return HeaderRules(dropped, beginnings, sifts=bool(beginnings))
    let, let_beginnings = _split((*passing, *NEEDED))
    return HeaderRules(dropped, beginnings, let, let_beginnings, sifts=True)


def _split(rules: Iterable[str]) -> tuple[frozenset[bytes], tuple[bytes, ...]]:
    lowered = [rule.lower().encode() for rule in rules]
    beginnings = tuple(sorted({rule[:-1] for rule in lowered if rule.endswith(b"*")}))
    return frozenset(rule for rule in lowered if not rule.endswith(b"*")), beginnings
