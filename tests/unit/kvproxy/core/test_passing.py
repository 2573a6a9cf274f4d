import json

import pytest

from kvproxy.core.errors import ProxyError
from kvproxy.core.passing import members_in, model_of, models_in_form, names_of, plain

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


def test_names_of_members_that_cannot_be_followed() -> None:
    body = b'{"model":"m","kv\\u005ftransfer_params":{},"a":1,"a":2}'
    assert set(names_of(body)) == {"model", "kv_transfer_params", "a"}


ODD = '{"a":1,"b":NaN}'


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_members_as_an_engine_reads_them(coding: str) -> None:
    body = ("  " + ODD).encode(coding)
    assert json.loads(body).keys() == set(members_in(body) or ())
    with pytest.raises(ProxyError, match="UTF-8"):
        members_in(body + (" " * 2**20).encode(coding.removesuffix("-sig")))


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"7", b"--b\r\n", b"\x1f\x8b\0", b"{", b'{"a":' * 10**5]
)
def test_what_is_no_object_has_no_members(body: bytes) -> None:
    assert members_in(body) is None
    assert members_in(b"[" * 3 * 2**20) is None


@pytest.mark.parametrize(
    ("body", "readable"), [(b"\x1f\x8b", False), (b"", False), (b'{"model":"m"}', True)]
)
def test_what_is_plain(body: bytes, readable: bool) -> None:
    assert plain(body) is readable


def test_every_field_of_a_form_that_names_a_model() -> None:
    body = form(("model", b"a"), ("file", b"--b is no end\r\n-b"), ("model", b"b\r\nc"))
    assert list(models_in_form(body, FORM)) == ["a", "b\r\nc"]
    assert list(models_in_form(body, "multipart/form-data")) == []
    assert list(models_in_form(body, "application/json")) == []
