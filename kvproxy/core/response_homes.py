"""Which replica keeps which response: a conversation may go on by `previous_response_id`, and only
the engine that gave a response has it.

An id that is not known here, because it is old or was given through another proxy, says nothing:
such a request is placed like any other, and its engine says whether it knows the response.
"""

import re
from collections import OrderedDict
from typing import NamedTuple

from msgspec.structs import replace

from kvproxy.core.errors import ProxyError
from kvproxy.core.types import Identity

PREVIOUS = "previous_response_id"
# Where an answer of /v1/responses says its id: a body at its start, a stream in its first event.
_ID = re.compile(rb'"id"\s*:\s*"(resp_[!#-\[\]-~]{1,200})"')
_OPENING_BYTES = 4096
_ABOUT_ONE = re.compile(r"/v1/responses/([^/?]+)")


class Kept(NamedTuple):
    """`session` is that of the conversation which the response is part of."""

    tenant: str
    replica: str
    session: str


class ResponseHomes:
    """At most `max_responses`, the longest unused go first. What is one tenant's is no other's."""

    def __init__(self, max_responses: int) -> None:
        self._max_responses = max_responses
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, response: str, kept: Kept) -> None:
        self._kept[response] = kept
        self._kept.move_to_end(response)
        if len(self._kept) > self._max_responses:
            self._kept.popitem(last=False)

    def find(self, response: str, tenant: str) -> Kept | None:
        """Raises ProxyError response_not_found for one of another tenant, in an engine's words."""
        kept = self._kept.get(response)
        if kept is None:
            return None
        if kept.tenant != tenant:
            message = f"Response with id '{response}' not found."
            raise ProxyError("response_not_found", message, param=PREVIOUS)
        self._kept.move_to_end(response)
        return kept


def id_in(opening: bytes) -> str:
    """Of the response whose answer begins so; "" if it does not say."""
    found = _ID.search(opening, 0, _OPENING_BYTES)
    return found[1].decode() if found else ""


def id_asked_for(path: str) -> str:
    """Of the response that a request is about, to fetch, cancel or delete it; "" for others."""
    found = _ABOUT_ONE.match(path)
    return found[1] if found else ""


def followed(identity: Identity, kept: Kept | None) -> Identity:
    """Turns that name nothing but the response before them are one conversation."""
    if kept is None or identity.evidence != f"body:{PREVIOUS}":
        return identity
    return replace(identity, session=kept.session)
