from kvproxy.adapters.http1.heads import Block, answer_head, block, request_head, sent_on


def test_a_request_keeps_its_headers_in_order_and_spelling() -> None:
    headers = [
        (b"X-One", b"1"),
        (b"host", b"proxy"),
        (b"Connection", b"x-hop"),
        (b"X-Hop", b"1"),
        (b"x-one", b"\xff"),
        (b"Content-Length", b"7"),
        (b"Authorization", b"Bearer client"),
    ]
    own, more = b"content-length: 9\r\n", [(b"authorization", b"Bearer ours")]
    for sent in (headers, tuple(headers), tuple(headers)):
        assert request_head("POST", "/a?\xe9", b"replica:1", sent, own, more=more) == (
            b"POST /a?\xe9 HTTP/1.1\r\nHost: replica:1\r\nX-One: 1\r\nx-one: \xff\r\n"
            b"content-length: 9\r\nauthorization: Bearer ours\r\n\r\n"
        )
    kept = frozenset({b"x-one"})
    assert request_head("GET", "/", b"r", tuple(headers), own, kept=kept) == (
        b"GET / HTTP/1.1\r\nHost: r\r\nAuthorization: Bearer client\r\ncontent-length: 9\r\n\r\n"
    )


def test_what_is_remembered_of_an_answer_is_what_it_says() -> None:
    headers = (
        (b"Content-Type", b"text/event-stream; charset=utf-8"),
        (b"Transfer-Encoding", b"chunked"),
        (b"X-Drop", b"1"),
    )
    for _ in range(2):
        said = sent_on(headers, frozenset({b"x-drop"}))
        assert said == Block(
            b"Content-Type: text/event-stream; charset=utf-8\r\n", sized=False, events=True
        )
    encoded = block([*headers, (b"content-encoding", b"gzip"), (b"CONTENT-LENGTH", b"3")])
    assert (encoded.sized, encoded.events) == (True, False)


def test_answers_have_the_phrase_of_their_status() -> None:
    assert answer_head(404, [(b"A", b"b")]) == b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n"
    assert answer_head(599, []) == b"HTTP/1.1 599 \r\n\r\n"
