import json
from typing import Any

import msgspec
import pytest

from kvproxy.core.errors import ProxyError
from kvproxy.core.spans import object_spans
from kvproxy.core.transfers import members_of, transfers

KV = "kv_transfer_params"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"model": "m"}, set()),
        ({KV: {}}, {KV}),
        (
            {"bootstrap_room": 1, "ec_transfer_params": None},
            {"bootstrap_room", "ec_transfer_params"},
        ),
        # What vLLM hands on unread: a text there ends the scheduler of a fleet that moves KV.
        ({"vllm_xargs": {KV: "x"}}, {KV}),
        ({"vllm_xargs": {"kv_cache_report_mode": "full"}}, set()),
        ({"sampling_params": {"extra_args": {KV: {"do_remote_prefill": True}}}}, {KV}),
        ({"sampling_params": {"max_tokens": 3, "extra_args": None}}, set()),
        ({"vllm_xargs": [KV], "sampling_params": KV}, set()),
        # Of tools and texts that is no command.
        ({"tools": [{"function": {"parameters": {"properties": {KV: {}}}}}]}, set()),
        ({"messages": [{"content": KV}], "metadata": {KV: "x"}}, set()),
    ],
)
def test_they_are_found_where_an_engine_finds_them(body: dict[str, Any], found: set[str]) -> None:
    raw = json.dumps(body).encode()
    spans = object_spans(raw)
    assert spans is not None
    assert transfers(spans) == found
    assert transfers(members_of(raw)) == found
    assert transfers(members_of(raw.replace(b"kv_", b"kv\\u005f"))) == found


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a\xff":1}', b"--form", b"[" * 10_000])
def test_what_is_no_object_has_no_members(body: bytes) -> None:
    assert members_of(body) == {}


ODD = '  {"a":1,"b":NaN,"vllm_xargs":{"kv_transfer_params":"x","c":NaN}}'


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_an_object_is_read_as_engines_do(coding: str) -> None:
    body = ODD.encode(coding)
    assert json.loads(body).keys() == members_of(body).keys()
    assert transfers(members_of(body)) == {KV}
    with pytest.raises(ProxyError, match="UTF-8"):
        members_of(body + (" " * 2**20).encode(coding.removesuffix("-sig")))
    assert members_of(b"[" * 2**21) == {}


def test_members_that_are_repeated_or_escaped_are_found() -> None:
    body = b'{"model":"m","kv\\u005ftransfer_params":{},"a":1,"a":2}'
    assert set(members_of(body)) == {"model", KV, "a"}


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([b'{"kv_transfer_params": "x"}'], {KV}),
        ([b'{"kv\\u005ftransfer_params": "x"}'], {KV}),
        ([b'{"a": 1}', b'{"kv_transfer_params":\r\n "x"}', b"{}"], {KV}),
        ([b'{"a": "kv_transfer_params"}'], set()),
        ([b"kv_transfer_params"], set()),
        ([], set()),
    ],
)
def test_a_form_may_have_them_too(values: list[bytes], found: set[str]) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    odd = b'--b\r\nContent-Disposition: form-data; NAME = "%b"\r\nx: y\r\n\r\n%b\r\n'
    parts = [head % (b"model", b"whisper"), head % (b"file", b"\0kv_transfer_params")]
    parts += [head % (b"vllm_xargs", value) for value in values]
    assert transfers(members_of(b"".join(parts) + b"--b--\r\n")) == found
    parts = [odd % (b"vllm_xargs", value) for value in values]
    assert transfers(members_of(b"".join(parts) + b"--b--\r\n")) == found


@pytest.mark.parametrize(
    "line", [b"name=vllm_xargs\n", b'name="vllm_xargs"\r\n\r\n', b"name=vllm_xargs\n\nx\n-- "]
)
@pytest.mark.timeout(20)
def test_a_body_of_nothing_but_names_is_looked_at_once(line: bytes) -> None:
    body = line * (2**20 // len(line))
    if body.endswith(b"-- "):
        with pytest.raises(ProxyError, match="More than 64 parts"):
            members_of(body)
    else:
        assert not transfers(members_of(body))
    assert not transfers({"vllm_xargs": msgspec.Raw(json.dumps([line.decode()] * 2**16).encode())})
