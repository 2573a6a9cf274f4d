"""Requests that pass without being understood: which model they name, so that they reach it."""

import re
from collections.abc import Iterator
from email.message import Message
from email.utils import collapse_rfc2231_value

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


def models_in_form(body: bytes, content_type: str) -> Iterator[str]:
    """What each field `model` of a multipart body says, wherever it stands and however it is
    written: an engine takes the last."""
    said = Message()
    said["content-type"] = content_type
    boundary = said.get_boundary()
    if not boundary:
        return
    # Not by a pattern: a recording of 25 MB would take it most of a second.
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace")):
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
