"""What a model's chat template never prints: names, ids of calls, earlier thoughts and the like.

What is not printed is no part of the prompt, so it is left out of the chain: a client that changes
it still finds what is cached. Templates differ, so engines are asked: each tokenises a small
conversation with such a trait and without, once. Until all that serve have said that it makes no
difference, it counts.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

import msgspec


class Trait(StrEnum):
    """That some messages have. Others are values of a member, such as template arguments: their
    name, a NUL and the value as canonical JSON."""

    NAMES = "names"
    IDS = "ids"
    REASONING = "reasoning"
    DEVELOPER = "developer"


ARGUMENTS, EFFORT = "chat_template_kwargs", "reasoning_effort"
# Values come from clients: so many of such a size are known, and one a tenant waits to be.
_TRAITS_MAX, _VALUE_BYTES_MAX, _TENANTS_MAX = 64, 512, 64
# While one waits, those that nobody was read with in so many looks make room: an hour, by default.
_LOOKS = 720
Body = dict[str, Any]
_THOUGHT = {"reasoning": "So be it.", "reasoning_content": "So be it."}


def value_trait(name: str, value: bytes) -> str:
    """Of a member with this canonical value."""
    return f"{name}\0{value.decode()}"


class Unprinted:
    """`traits` are those that no template prints; whatever is read with others of them is of
    another `edition`. `wanted` are those to ask about: the usual ones from the start, since what
    was read before is of another chain; `wake` is called for one that is met later. Without
    `asking` there are none. Where they are as many as may be, a value waits for another one to
    leave, which is one a look: nobody's values keep those of others out for good."""

    def __init__(self, *, asking: bool = False) -> None:
        self.asking = asking
        self.traits: frozenset[str] = frozenset()
        self.edition = 0
        self.wanted: dict[str, None] = dict.fromkeys(Trait if asking else ())
        self.wake: Callable[[], None] = lambda: None
        self._said: dict[str, dict[str, bool]] = {}
        self._waiting: OrderedDict[str, str] = OrderedDict()
        # Of this edition, in which everything was read at least once: whatever is used was met.
        self._met: set[str] = set()
        self._looks = 0

    def prints(self, trait: str) -> bool:
        """Whether it has to be taken for part of the prompt."""
        if trait in self.traits:
            return False
        if self.asking and trait not in self.wanted:
            self._want(trait, "")
        return True

    def prints_value(self, trait: str, tenant: str) -> bool:
        """prints() of a member's value."""
        if trait in self.traits:
            self._met.add(trait)
            return False
        if self.asking and trait not in self.wanted and len(trait) <= _VALUE_BYTES_MAX:
            self._want(trait, tenant)
        return True

    def _want(self, trait: str, tenant: str) -> None:
        if len(self.wanted) < _TRAITS_MAX:
            self.wanted[trait] = None
            self.wake()
        elif tenant in self._waiting or len(self._waiting) < _TENANTS_MAX:
            self._waiting[tenant] = trait

    def unasked(self, replica: str) -> list[str]:
        said = self._said.get(replica, {})
        return [trait for trait in self.wanted if trait not in said]

    def told(self, replica: str, trait: str, *, printed: bool) -> None:
        """What `replica` prints; it prints what cannot be told of it."""
        self._said.setdefault(replica, {})[trait] = printed

    def settle(self, serving: Iterable[str]) -> None:
        """These replicas serve; what is known of others is forgotten: they may come back as another
        version. While one of them was not asked, what was settled before stays."""
        self._said = {name: self._said.get(name, {}) for name in serving}
        said = list(self._said.values())
        traits = {
            trait
            for trait in self.wanted
            if said and not any(each.get(trait, trait not in self.traits) for each in said)
        }
        self._looks += 1
        if traits != self.traits:
            self._begin(traits)
        if self._waiting:
            self._make_room()

    def _begin(self, traits: Iterable[str]) -> None:
        self.traits, self.edition = frozenset(traits), self.edition + 1
        self._met.clear()
        self._looks = 0

    def _make_room(self) -> None:
        """For one value that waits. Which others are printed makes no difference to anybody; of
        those that are not, some may be used no more."""
        values = [trait for trait in self.wanted if "\0" in trait]
        left = [trait for trait in values if trait not in self.traits][:1]
        if not left and self._looks >= _LOOKS:
            left = [trait for trait in values if trait not in self._met]
            # Where all were met long ago, it is seen from now on which still are.
            self._begin(self.traits.difference(left))
        for trait in left:
            del self.wanted[trait]
            for said in self._said.values():
                said.pop(trait, None)
        if left:
            _, trait = self._waiting.popitem(last=False)
            self.wanted[trait] = None


def conversation(model: str, trait: str = "", *, thinks: bool = False) -> bytes | None:
    """A body for /tokenize of an engine that serves `model`, with a trait or without; None where
    it would be refused. Equal tokens as without: the trait is not printed."""
    body, messages = _conversation(model, thinks=thinks)
    name, _, value = trait.partition("\0")
    if name == Trait.NAMES:
        for message in messages:
            message["name"] = "kim"
    elif name == Trait.IDS:
        for message in messages:
            _rename(message)
    elif name == Trait.REASONING:
        for message in messages:
            if message["role"] == "assistant":
                message |= _THOUGHT
    elif name == Trait.DEVELOPER:
        messages[0]["role"] = "developer"
    elif name:
        arguments = _arguments(name, msgspec.json.decode(value.encode()))
        if not isinstance(arguments, dict):
            return None
        body[ARGUMENTS] = arguments
    return msgspec.json.encode(body)


def _arguments(name: str, value: Any) -> Any:
    """What the template is given. /tokenize does not know the effort, which is two of them."""
    if name == EFFORT:
        return {"reasoning_effort": value, "enable_thinking": value != "none"}
    return value


def _rename(message: Body) -> None:
    """Other ids, of the form that is all some templates take."""
    for call in message.get("tool_calls", ()):
        call["id"] = call["id"][::-1]
    if "tool_call_id" in message:
        message["tool_call_id"] = message["tool_call_id"][::-1]


def _conversation(model: str, *, thinks: bool) -> tuple[Body, list[Body]]:
    """Two questions, each answered by calling a tool: templates print what belongs to the last one
    otherwise than what came before it. `thinks`: thoughts come before one answer of each."""
    parameters = {"type": "object", "properties": {"path": {"type": "string"}}}
    function = {"name": "read", "description": "Read a file.", "parameters": parameters}
    looking: Body = {"role": "assistant", "content": "I look."} | (_THOUGHT if thinks else {})
    messages: list[Body] = [{"role": "system", "content": "Be brief."}]
    for name, call_id in (("a", "callA1234"), ("b", "callB5678")):
        messages += [
            {"role": "user", "content": f"What is in {name}?"},
            looking | {"tool_calls": [_call(name, call_id)]},
            {"role": "tool", "tool_call_id": call_id, "content": "12"},
            {"role": "assistant", "content": "It is 12."},
        ]
    # The last answer is still to come.
    messages.pop()
    body = {"messages": messages, "tools": [{"type": "function", "function": function}]}
    return ({"model": model} | body if model else body), messages


def _call(path: str, call_id: str) -> Body:
    function = {"name": "read", "arguments": f'{{"path": "{path}"}}'}
    return {"id": call_id, "type": "function", "function": function}
