"""Text that changes by itself from turn to turn, such as a billing line or the time of day.

A rule says where it stands and whether it is dropped, or frozen at the first value its conversation
had. Everything behind such a text would miss the cache with every change.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from kvproxy.core.lru import ByteLru

_FROZEN_MAX_BYTES = 4 * 2**20
_ENTRY_BYTES = 200
VALUE_CHARACTERS_MAX = 4096


class Where(StrEnum):
    """Whose text it is. What an assistant said changes by no rule: see core/canonical."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Action(StrEnum):
    DROP = "drop"
    FREEZE = "freeze"


class Rule(NamedTuple):
    """What `pattern` finds in texts of kind `where`; `name` is the kind of its splices."""

    name: str
    where: Where
    pattern: re.Pattern[str]
    action: Action


# Claude Code opens its system text with a line whose `cch` differs in every request. Engines
# drop the whole block that begins so; the line alone is what must not reach the model.
BILLING_LINE = Rule(
    "billing_line",
    Where.SYSTEM,
    re.compile(r"\Ax-anthropic-billing-header:[^\n]*\n?"),
    Action.DROP,
)


class Frozen:
    """First values, by (tenant, session, rule, which of that rule's); bounded in bytes."""

    def __init__(self) -> None:
        self._kept: ByteLru[tuple[str, str, str, int], str] = ByteLru(_FROZEN_MAX_BYTES)

    def first(self, key: tuple[str, str, str, int], value: str) -> str:
        """What to use in place of `value`."""
        known = self._kept.get(key)
        if known is None and len(value) <= VALUE_CHARACTERS_MAX:
            self._kept.put(key, value, _ENTRY_BYTES + 4 * len(value))
        return value if known is None else known


class Volatile:
    def __init__(self, rules: Sequence[Rule] = (), frozen: Frozen | None = None) -> None:
        self._rules = {where: [rule for rule in rules if rule.where == where] for where in Where}
        self._frozen = frozen or Frozen()
        self.names = frozenset(rule.name for rule in rules)
        self.freezes = any(rule.action is Action.FREEZE for rule in rules)

    def touches(self, where: Where) -> bool:
        return bool(self._rules[where])

    def clean(self, tenant: str, session: str, where: Where, text: str) -> tuple[str, str]:
        """(text to forward, name of the last rule that changed it or "")."""
        changed_by = ""
        for rule in self._rules[where]:
            if rule.action is Action.DROP:
                cleaned = rule.pattern.sub("", text)
            else:
                cleaned = self._freeze(tenant, session, rule, text)
            if cleaned != text:
                text, changed_by = cleaned, rule.name
        return text, changed_by

    def _freeze(self, tenant: str, session: str, rule: Rule, text: str) -> str:
        """Without a session nothing is frozen: nobody else's value may appear in it."""
        if not session:
            return text
        count = 0

        def first(found: re.Match[str]) -> str:
            nonlocal count
            key = (tenant, session, rule.name, count)
            count += 1
            return self._frozen.first(key, found[0])

        return rule.pattern.sub(first, text)
