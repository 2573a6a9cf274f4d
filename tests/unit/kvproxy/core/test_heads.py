from kvproxy.core.canonical import Canonicaliser, Order, Whose
from kvproxy.core.dialects.messages import Messages
from kvproxy.core.heads import Heads, shifted
from kvproxy.core.representatives import Representatives
from kvproxy.core.spans import Span
from kvproxy.core.types import Splice

DIALECT = Messages()
TOOL = '{"name":"%s","input_schema":{"type":"object","properties":{}}}'
TOOLS = ("[" + ",".join(TOOL % name for name in "ab") + "]").encode()
SHUFFLED = ("[" + ",".join(TOOL % name for name in "ba") + "]").encode()
SYSTEM = b'"be brief"'


def make_heads() -> Heads:
    return Heads(Canonicaliser(Order.FIRST_SEEN, Representatives(2**20)), 64)


def span(raw: bytes, start: int = 0) -> Span:
    return Span(raw, start, start + len(raw))


def test_one_chain_for_the_same_bytes_wherever_they_stand() -> None:
    heads = make_heads()
    one = heads.head(
        DIALECT, Whose("t"), "m", [("system", span(SYSTEM)), ("tools", span(TOOLS, 50))]
    )
    again = heads.head(
        DIALECT, Whose("t"), "m", [("system", span(SYSTEM, 9)), ("tools", span(TOOLS))]
    )
    assert one.chain is again.chain
    assert len(one.chain) > 0


def test_splices_follow_their_member() -> None:
    heads = make_heads()
    first = heads.head(DIALECT, Whose("t"), "m", [("tools", span(TOOLS))])
    for start in (3, 70):
        head = heads.head(DIALECT, Whose("t"), "m", [("tools", span(SHUFFLED, start))])
        assert head.chain is first.chain
        assert head.splices == [Splice(start, start + len(SHUFFLED), TOOLS, "tool_order")]


def test_models_and_members_keep_apart() -> None:
    heads = make_heads()
    chains = [
        heads.head(DIALECT, Whose(tenant), model, [(name, span(SYSTEM))]).chain.hashes
        for tenant, model, name in [
            ("t", "m", "system"),
            ("t", "n", "system"),
            ("t", "m", "cache_salt"),
        ]
    ]
    assert len({tuple(hashes) for hashes in chains}) == 3


def test_a_shifted_splice_is_the_same_elsewhere() -> None:
    assert shifted(Splice(3, 5, b"x", "k"), 4) == Splice(7, 9, b"x", "k")
