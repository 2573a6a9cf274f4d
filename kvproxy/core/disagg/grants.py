"""KV that was computed for a request which then reached nobody to answer it.

Engines hold such blocks for a lease. The next attempt of the same request loads them rather than
have them computed again.
"""

from collections import OrderedDict
from typing import NamedTuple

from kvproxy.core.disagg.connectors import Fields

# vLLM holds blocks for 30 s: what is older than this may be gone before it is loaded.
_GOOD_FOR_S = 20.0
_MAX = 1024


class Grant(NamedTuple):
    """Members that the decode leg carries, when they were given, and for which prompt (its chain's
    end): clients choose request ids, and one may come with another prompt."""

    fields: Fields
    at: float
    prompt: int


class Grants:
    """At most 1,024, the oldest go first; each is taken once."""

    def __init__(self) -> None:
        self._grants: OrderedDict[str, Grant] = OrderedDict()

    def put(self, request_id: str, grant: Grant) -> None:
        self._grants.pop(request_id, None)
        self._grants[request_id] = grant
        if len(self._grants) > _MAX:
            self._grants.popitem(last=False)

    def waiting(self, request_id: str) -> bool:
        return request_id in self._grants

    def take(self, request_id: str, prompt: int, now: float) -> Grant | None:
        grant = self._grants.pop(request_id, None)
        good = grant is not None and grant.prompt == prompt and now - grant.at < _GOOD_FOR_S
        return grant if good else None
