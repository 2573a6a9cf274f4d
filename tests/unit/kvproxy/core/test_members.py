from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dialects.responses import Responses
from kvproxy.core.members import continued, elements_of, present, text_of
from kvproxy.core.spans import object_spans


def test_what_members_say() -> None:
    members = object_spans(b'{"model":"m","tools":[1],"messages":[1, 2],"n":7}')
    assert members is not None
    assert (text_of(members, "model"), text_of(members, "n"), text_of(members, "no")) == (
        "m",
        "",
        "",
    )
    assert [element.raw for element in elements_of(members["messages"])] == [b"1", b"2"]
    assert elements_of(members["n"]) == [members["n"]]
    assert elements_of(None) == []
    assert [name for name, _ in present(Chat(), members, None)] == ["tools"]


def test_the_response_that_is_gone_on_from() -> None:
    members = object_spans(b'{"previous_response_id":"r1"}')
    assert members is not None
    assert (continued(Responses(), members), continued(Chat(), members)) == ("r1", "")
