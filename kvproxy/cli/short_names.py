"""Names of replicas where there is little room: short, and still told apart."""

import re
from collections.abc import Sequence
from itertools import takewhile

_ELLIPSIS = "…"


def short_names(names: Sequence[str], room: int) -> dict[str, str]:
    """Each of `names` in at most `room` characters (more only where a thousand need numbers), no
    two alike: what all end with goes first, then what all begin with, then the middle."""
    shown = list(names)
    if len(names) > 1 and _longest(shown) > room:
        suffix = _whole_words(_common_suffix(shown), at_end=False)
        shown = [name.removesuffix(suffix) for name in shown]
    if len(names) > 1 and _longest(shown) > room:
        prefix = _whole_words(_common_prefix(shown), at_end=True)
        shown = [name.removeprefix(prefix) for name in shown]
    if _longest(shown) > room or not all(shown):
        shown = _cut(shown if all(shown) else list(names), room)
    return dict(zip(names, shown, strict=True))


def _longest(names: Sequence[str]) -> int:
    return max(map(len, names), default=0)


def _common_prefix(names: Sequence[str]) -> str:
    """Of the first and the last in order, which is that of all."""
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(min(names), max(names), strict=False))
    return "".join(letter for letter, _ in alike)


def _common_suffix(names: Sequence[str]) -> str:
    return _common_prefix([name[::-1] for name in names])[::-1]


def _whole_words(part: str, *, at_end: bool) -> str:
    """`part` without the word that was cut at its end, or at its beginning: "vllm-1" stays whole
    where all replicas are vllm-10 to vllm-19."""
    found = re.search(r"^.*[^A-Za-z0-9]" if at_end else r"[^A-Za-z0-9].*$", part, re.DOTALL)
    return found[0] if found else ""


def _cut(names: Sequence[str], room: int) -> list[str]:
    """The ends of each, where they tell them apart; else their numbers."""
    for head in range((room - 1) // 2, -1, -1):
        shown = [_middle(name, head, room) for name in names]
        if len(set(shown)) == len(names):
            return shown
    return [f"#{number}" for number in range(1, len(names) + 1)]


def _middle(name: str, head: int, room: int) -> str:
    if len(name) <= room:
        return name
    return name[:head] + _ELLIPSIS + name[len(name) - (room - head - 1) :]
