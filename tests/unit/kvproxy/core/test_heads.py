import pytest

from kvproxy.core.canonical import Canonicaliser, Order, Whose
from kvproxy.core.dialects.messages import Messages
from kvproxy.core.heads import Heads, shifted
from kvproxy.core.representatives import Representatives
from kvproxy.core.spans import Span
from kvproxy.core.types import Chain, Splice
from tests.support.memory import assert_counted, taken

DIALECT = Messages()
ANN = Whose("ann")
TOOL = '{"name":"%s","input_schema":{"type":"object","properties":{}}}'
TOOLS = ("[" + ",".join(TOOL % name for name in "ab") + "]").encode()
SHUFFLED = ("[" + ",".join(TOOL % name for name in "ba") + "]").encode()
SYSTEM = b'"be brief"'


def make_heads() -> Heads:
    return Heads(Canonicaliser(Order.FIRST_SEEN, Representatives(2**20)), 64)


def span(raw: bytes, start: int = 0) -> Span:
    return Span(raw, start, start + len(raw))


def chain(heads: Heads, model: str, *members: tuple[str, Span]) -> Chain:
    head = heads.head(DIALECT, ANN, model, members)
    return heads.chain(DIALECT, ANN, model, members, head)


def test_one_chain_for_the_same_bytes_wherever_they_stand() -> None:
    heads = make_heads()
    one = chain(heads, "m", ("system", span(SYSTEM)), ("tools", span(TOOLS, 50)))
    again = [chain(heads, "m", ("system", span(SYSTEM, 9)), ("tools", span(TOOLS))) for _ in "ab"]
    assert one == again[0] == again[1]
    assert len(one) > 0
    assert again[0] is again[1]


def test_a_head_that_is_seen_once_is_not_kept() -> None:
    heads = make_heads()
    for number in range(50):
        chain(heads, "m", ("system", span(b'"%d %b"' % (number, b"x" * 9000))))
    assert heads._chains.size_bytes < 50 * 300


def test_splices_follow_their_member() -> None:
    heads = make_heads()
    first = heads.head(DIALECT, ANN, "m", [("tools", span(TOOLS))])
    for start in (3, 70):
        head = heads.head(DIALECT, ANN, "m", [("tools", span(SHUFFLED, start))])
        assert head.meaning == first.meaning
        assert head.splices == [Splice(start, start + len(SHUFFLED), TOOLS, "tool_order")]


def test_models_and_members_keep_apart() -> None:
    heads = make_heads()
    asked = [("m", "system"), ("n", "system"), ("m", "cache_salt")]
    chains = [chain(heads, model, (name, span(SYSTEM))).hashes for model, name in asked]
    assert len({tuple(hashes) for hashes in chains}) == 3


def test_what_conversations_keep_of_a_head_is_one_object_without_what_was_read() -> None:
    heads, members = make_heads(), [("system", span(SYSTEM))]
    first = heads.head(DIALECT, ANN, "m", members)
    kept = heads.fixed("m", first)
    assert first.read
    assert kept == ("m", first._replace(read={}), 0)
    assert heads.fixed("m", heads.head(DIALECT, ANN, "m", members)) is kept
    elsewhere = first._replace(splices=[Splice(3, 5, b"x", "k")])
    assert heads.fixed("m", elsewhere).head.splices == elsewhere.splices
    for number in range(1000):
        heads.fixed("m", heads.head(DIALECT, ANN, str(number), members))
    assert len(heads._lasting) <= 256
    heads.clear()
    assert heads.fixed("m", first).era == heads.era == 1


def test_tenants_remember_for_themselves() -> None:
    heads, members = make_heads(), [("system", span(SYSTEM))]
    one, other = (heads.head(DIALECT, Whose(who), "m", members) for who in ("ann", "bob"))
    assert one.meaning != other.meaning
    assert other.read


def test_a_shifted_splice_is_the_same_elsewhere() -> None:
    assert shifted(Splice(3, 5, b"x", "k"), 4) == Splice(7, 9, b"x", "k")


@pytest.mark.parametrize(("size", "times"), [(200, 1), (200, 2), (9000, 1), (9000, 2)])
def test_what_is_counted_is_what_is_taken(size: int, times: int) -> None:
    def make() -> Heads:
        heads = make_heads()
        # Watched memory is slow.
        for number in range(300 if size < 1000 else 60):
            for _ in range(times):
                chain(heads, "m", ("system", span(b'"%d %b"' % (number, b"x" * size))))
        return heads

    heads, real = taken(make)
    assert_counted(real, heads._parts.size_bytes + heads._chains.size_bytes)


def test_memory_is_bounded_and_can_be_given_back() -> None:
    heads = Heads(Canonicaliser(Order.FIRST_SEEN, Representatives(2**20)), 64, 20_000)
    for number in range(100):
        for _ in range(2):
            chain(heads, "m", ("system", span(b'"%d"' % number)))
    assert heads._parts.size_bytes <= 10_000
    assert heads._chains.size_bytes <= 10_000
    heads.clear()
    assert heads._parts.size_bytes == heads._chains.size_bytes == 0
