from typing import Any

from kvproxy.core.canonical import Order
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dry_run import DryReader
from kvproxy.core.turn import Turn
from tests.support.makers import make_reader

TOOL = '{"type":"function","function":{"name":"f","parameters":{%s}}}'


def body(parameters: str) -> bytes:
    return f'{{"model":"m","tools":[{TOOL % parameters}],"messages":[]}}'.encode()


def test_what_would_be_changed_is_told_and_left() -> None:
    reader = DryReader(make_reader(Order.PRESERVE), make_reader())
    first = reader.read(Chat(), "", body('"a":1,"b":2'))
    other = reader.read(Chat(), "", body('"b":2,"a":1'))
    assert [splice.kind for splice in other.not_applied] == ["schema_order"]
    assert (first.splices, other.splices, first.not_applied) == ([], [], [])


def test_what_has_to_be_read_again_is() -> None:
    """Another worker spelled something first: what was told would not be what would be done."""
    acting, seen = make_reader(), []
    read = acting.read

    def watched(*given: Any, anew: bool = False) -> Turn:
        seen.append(anew)
        return read(*given, anew=anew)

    acting.read = watched  # type: ignore[method-assign, assignment]
    reader = DryReader(make_reader(Order.PRESERVE), acting)
    reader.read(Chat(), "", body('"a":1'))
    reader.read(Chat(), "", body('"a":1'), anew=True)
    assert seen == [False, True]


def test_chains_are_those_of_what_is_forwarded() -> None:
    reader = DryReader(make_reader(Order.PRESERVE), make_reader())
    one, other = (reader.read(Chat(), "", body(p)) for p in ('"a":1,"b":2', '"b":2,"a":1'))
    assert one.chain != other.chain
