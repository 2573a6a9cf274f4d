"""Requests that pass without being understood: which model they name, so that they reach it."""

import json
import re
from collections.abc import Iterable, Iterator
from email.message import Message
from email.utils import collapse_rfc2231_value

import msgspec

from kvproxy.core.errors import ProxyError

_FORM_SCANNED_BYTES = 64 * 2**10
# What is JSON for an engine and not for us is read as slowly as it does, up to here.
_ODD_BYTES_MAX = 2**20
_BEGINNING_BYTES = 256
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FIELD = re.compile(rb'name="?model"?\r?\n(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]{1,256})\r?\n--')


class _Named(msgspec.Struct):
    model: str = ""


_NAMED = msgspec.json.Decoder(_Named)
_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def names_of(body: bytes) -> Iterable[str]:
    """Of the members of a JSON object that cannot be followed: spelt with escapes, or repeated."""
    return _OBJECT.decode(body)


def members_in(body: bytes) -> Iterable[str] | None:
    """Of a JSON object as an engine reads it: in UTF-16 too, and with NaN. None where it is none.

    Raises ProxyError invalid_json for a large one that is not as RFC 8259 has it."""
    try:
        return names_of(body)
    except _UNREADABLE:
        coding = json.detect_encoding(body)
    begins = body[:_BEGINNING_BYTES].decode(coding, "replace").lstrip("\ufeff \t\r\n")
    if begins and not begins.startswith("{"):
        return None
    if len(body) > _ODD_BYTES_MAX:
        raise ProxyError("invalid_json", "The body is no JSON object in UTF-8.")
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def names_within(value: object) -> Iterator[str]:
    """Of members at any depth: of JSON, with its place or without, or of what was read from it.

    Raises ProxyError invalid_body where it is larger than what anybody says there."""
    raw = getattr(value, "raw", value)
    if isinstance(raw, bytes | msgspec.Raw):
        text = bytes(raw)
        if len(text) > _ODD_BYTES_MAX:
            raise ProxyError(
                "invalid_body", "What is said to the engine beside a prompt is too long."
            )
        raw = msgspec.json.decode(text)
    waiting = [raw]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield from each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def plain(body: bytes) -> bool:
    """Whether a body is JSON, whatever its Content-Encoding says: engines look at none. Raises as
    members_in."""
    return members_in(body) is not None


def model_of(body: bytes, content_type: str) -> str:
    """The model that a JSON or multipart body names; "" where it names none that can be told.

    A form field may stand before or behind a large file: only both ends are looked at.
    """
    kind = content_type.lower()
    if kind.startswith("application/json"):
        try:
            return _NAMED.decode(body).model
        except _UNREADABLE:
            return ""
    if kind.startswith("multipart/form-data"):
        place = model_in_form(body)
        return body[place[0] : place[1]].decode(errors="replace") if place else ""
    return ""


def model_in_form(body: bytes) -> tuple[int, int] | None:
    """Where the field stands in a multipart body: [start, end), None where it is not seen."""
    for begin, end in ((0, _FORM_SCANNED_BYTES), (max(0, len(body) - _FORM_SCANNED_BYTES), None)):
        found = _FIELD.search(body[begin:end])
        if found is not None:
            return begin + found.start(1), begin + found.end(1)
    return None


def models_in_form(body: bytes, content_type: str) -> Iterator[str]:
    """What each field `model` of a multipart body says, wherever it stands and however it is
    written: an engine takes the last."""
    said = Message()
    said["content-type"] = content_type
    boundary = said.get_boundary()
    if not boundary:
        return
    delimiter = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary.encode("latin-1", "replace")))
    for part in delimiter.split(body):
        head, _, value = part.partition(b"\r\n\r\n")
        if any(_names_model(line) for line in head.split(b"\r\n")):
            yield value.decode(errors="replace")


def _names_model(line: bytes) -> bool:
    name, _, value = line.decode("latin-1").partition(":")
    if name.strip().lower() != "content-disposition":
        return False
    said = Message()
    said[name] = value
    given = said.get_params([], header=name)
    names = [collapse_rfc2231_value(each) for key, each in given if key.lower() == "name"]
    return "model" in names
