"""Requests that pass without being understood: which model they name, so that they reach it."""

import re

import msgspec

_FORM_SCANNED_BYTES = 64 * 2**10
_FIELD = re.compile(rb'name="?model"?\r?\n(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]{1,256})\r?\n--')


class _Named(msgspec.Struct):
    model: str = ""


_NAMED = msgspec.json.Decoder(_Named)


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
