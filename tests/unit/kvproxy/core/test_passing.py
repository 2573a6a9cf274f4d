import pytest

from kvproxy.core.errors import ProxyError
from kvproxy.core.passing import model_of, models_in_form

JSON = "application/json; charset=utf-8"
FORM = "multipart/form-data; boundary=b"


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)
        for name, value in fields
    ]
    return b"".join(parts) + b"--b--\r\n"


@pytest.mark.parametrize(
    ("body", "content_type", "model"),
    [
        (b'{"input":"x","model":"m"}', JSON, "m"),
        (b'{"model":"m","model":7}', JSON, ""),
        (b'{"model":null}', JSON, ""),
        (b"[1]", JSON, ""),
        (b"not json", JSON, ""),
        (b'{"model":"\xff"}', JSON, ""),
        (b"", JSON, ""),
        (b'{"model":"m"}', "text/plain", ""),
        (form(("model", b"whisper"), ("file", b"\x00" * 100)), FORM, "whisper"),
        (form(("file", b"\x00" * 300_000), ("model", b"whisper")), FORM, "whisper"),
        (form(("file", b"\x00" * 100)), FORM, ""),
        (form(("model", b"x" * 300)), FORM, ""),
    ],
)
def test_the_model_that_is_named(body: bytes, content_type: str, model: str) -> None:
    assert model_of(body, content_type) == model


def test_headers_behind_the_name_are_skipped() -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="model"\r\nContent-Type: text/plain\r\n'
    assert model_of(head + b"\r\nwhisper\r\n--b--\r\n", FORM) == "whisper"


def test_every_field_of_a_form_that_names_a_model() -> None:
    body = form(("model", b"a"), ("file", b"--b is no end\r\n-b"), ("model", b"b\r\nc"))
    assert list(models_in_form(body, FORM)) == ["a", "b\r\nc"]
    assert list(models_in_form(body, "multipart/form-data")) == []
    assert list(models_in_form(body, "application/json")) == []


@pytest.mark.timeout(20)
def test_a_form_of_nothing_but_names_is_looked_at_once() -> None:
    assert model_of(b"name=model\n" * 2**20, FORM) == ""
    with pytest.raises(ProxyError, match="More than 64 fields"):
        model_of(b"name=model\n\n\n--" * 2**20, FORM)


def test_more_than_anybody_looks_at_names_nothing() -> None:
    assert "" in list(models_in_form(form(*[("a", b"b")] * 2000), FORM))
    above = b"--b\r\n" + b"x: y\r\n" * 4096 + b"\r\nvalue\r\n--b--\r\n"
    assert list(models_in_form(above, FORM)) == [""]
