"""Requests that pass without being understood: which model they name, so that they reach it."""

import re
from collections.abc import Iterator
from email.message import Message
from email.utils import collapse_rfc2231_value

import msgspec

from kvproxy.core.errors import ProxyError

_FORM_SCANNED_BYTES = 64 * 2**10
_FIELD, _VALUE = re.compile(rb'name="?model"?(?=\r?\n)'), re.compile(rb"[^\r\n]{1,256}")
_BLANK = re.compile(rb"\r?\n\r?\n")
# Of one name in a form, parts of a form, bytes of what stands above a part's value.
_FIELDS_MAX, _PARTS_MAX, _HEAD_BYTES_MAX = 64, 1024, 16 * 2**10


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
        for first, last in fields(body[begin:end], _FIELD):
            if _VALUE.fullmatch(body, begin + first, begin + last):
                return begin + first, begin + last
    return None


def fields(body: bytes, named: "re.Pattern[bytes]") -> Iterator[tuple[int, int]]:
    """Where the values of fields that are called so stand: [start, end). Every byte is looked at
    once; a pattern for all of it would begin anew at each name. Raises ProxyError bad_request for
    more of one name than anybody means."""
    at = 0
    for _ in range(_FIELDS_MAX):
        found = named.search(body, at)
        blank = _BLANK.search(body, found.end()) if found else None
        at = body.find(b"\n--", blank.end()) if blank else -1
        if blank is None or at < 0:
            return
        yield blank.end(), max(blank.end(), at - (body[at - 1 : at] == b"\r"))
    raise ProxyError("bad_request", f"More than {_FIELDS_MAX} fields of a form have one name.")


def models_in_form(body: bytes, content_type: str) -> Iterator[str]:
    """What each field `model` of a multipart body says, wherever it stands and however it is
    written: an engine takes the last. "" where there is more than anybody looks at."""
    said = Message()
    said["content-type"] = content_type
    boundary = said.get_boundary()
    if not boundary:
        return
    # Not by a pattern: a recording of 25 MB would take it most of a second.
    border = b"\r\n--" + boundary.encode("latin-1", "replace")
    parts = (b"\r\n" + body).split(border, _PARTS_MAX)
    if len(parts) > _PARTS_MAX:
        yield ""
    for part in parts[:_PARTS_MAX]:
        head, found, value = part.partition(b"\r\n\r\n")
        if not found:
            continue
        if len(head) > _HEAD_BYTES_MAX:
            yield ""
        elif any(_names_model(line) for line in head.split(b"\r\n")):
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
