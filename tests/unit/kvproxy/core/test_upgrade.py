import pytest

from kvproxy.core.upgrade import asking_for, asks_for_websocket, model_asked_for

ASKED = [
    (b"Host", b"x"),
    (b"Connection", b"keep-alive, Upgrade"),
    (b"Upgrade", b"WebSocket"),
    (b"Sec-WebSocket-Key", b"k"),
]


def asks(method: str = "GET", *more: tuple[bytes, bytes], without: bytes = b"") -> bool:
    headers = [pair for pair in [*ASKED, *more] if pair[0] != without]
    header = {name.decode().lower(): value.decode() for name, value in headers}
    return asks_for_websocket(method, headers, header)


def test_a_websocket_is_asked_for_as_the_rfc_says() -> None:
    assert asks()
    assert asks("GET", (b"Content-Length", b"0"))


@pytest.mark.parametrize("without", [b"Connection", b"Upgrade", b"Sec-WebSocket-Key"])
def test_anything_missing_makes_it_an_ordinary_request(without: bytes) -> None:
    assert not asks(without=without)


@pytest.mark.parametrize(
    "more",
    [
        (b"Content-Length", b"3"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"close"),
    ],
)
def test_nothing_doubtful_is_a_tunnel(more: tuple[bytes, bytes]) -> None:
    assert not asks("GET", more)
    assert not asks("POST")


@pytest.mark.parametrize(
    ("target", "model"),
    [
        ("/v1/realtime?model=a%20b&x=1", "a b"),
        ("/v1/realtime?x=model", ""),
        ("/v1/realtime", ""),
        ("/v1/realtime?model=a&model=a", "a"),
        ("/v1/realtime?model=a&x=1&model=b", ""),
        ("/v1/realtime?" + "a=1&" * 100, ""),
    ],
)
def test_the_model_in_a_query(target: str, model: str) -> None:
    assert model_asked_for(target) == model


def test_another_model_in_the_query() -> None:
    assert asking_for("/v1/realtime?model=a&b=&c=1", "x y") == "/v1/realtime?model=x+y&b=&c=1"
