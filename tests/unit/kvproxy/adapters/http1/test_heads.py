from kvproxy.adapters.http1.heads import answer_head, request_head


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
    own = [(b"content-length", b"9"), (b"authorization", b"Bearer ours")]
    assert request_head("POST", "/a?\xe9", b"replica:1", headers, own) == (
        b"POST /a?\xe9 HTTP/1.1\r\nHost: replica:1\r\nX-One: 1\r\nx-one: \xff\r\n"
        b"content-length: 9\r\nauthorization: Bearer ours\r\n\r\n"
    )


def test_answers_have_the_phrase_of_their_status() -> None:
    assert answer_head(404, [(b"A", b"b")]) == b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n"
    assert answer_head(599, []) == b"HTTP/1.1 599 \r\n\r\n"
