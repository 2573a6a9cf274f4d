"""Requests that pass without being understood: which model they name, so that they reach it."""

import re
from collections.abc import Iterable

import msgspec

_FORM_SCANNED_BYTES = 64 * 2**10
_FIELD = re.compile(rb'name="?model"?\r?\n(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]{1,256})\r?\n--')


class _Named(msgspec.Struct):
    model: str = ""


_NAMED = msgspec.json.Decoder(_Named)
_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def names_of(body: bytes) -> Iterable[str]:
    """Of the members of a JSON object that cannot be followed: spelt with escapes, or repeated."""
    return _OBJECT.decode(body)


def model_of(body: bytes, content_type: str) -> str:
    """The model that a JSON or multipart body names; "" where it names none that can be told.

    A form field may stand before or behind a large file: only both ends are looked at.
    """
    kind = content_type.lower()
    if kind.startswith("application/json"):
        try:
            return _NAMED.decode(body).model
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""
    if kind.startswith("multipart/form-data"):
        ends = (body[:_FORM_SCANNED_BYTES], body[-_FORM_SCANNED_BYTES:])
        found = next((match for end in ends for match in [_FIELD.search(end)] if match), None)
        return found[1].decode(errors="replace") if found else ""
    return ""
