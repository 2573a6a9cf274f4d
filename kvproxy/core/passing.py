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
