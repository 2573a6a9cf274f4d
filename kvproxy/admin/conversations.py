"""What the live view shows of conversations, and which of them a name on it means.

They appear under a digest: ids that clients send may say who somebody is.
"""

from collections import OrderedDict
from hashlib import sha256
from itertools import islice

from kvproxy.core.affinity import Home
from kvproxy.core.errors import ProxyError
from kvproxy.core.pins import Pinned
from kvproxy.core.router import Router

_ROWS = 40
# A page that stays open may name what was shown long ago.
_NAMES_MAX = 4096


class Conversations:
    def __init__(self, router: Router) -> None:
        self._router = router
        self._shown: OrderedDict[str, Pinned] = OrderedDict()

    def rows(self, now: float) -> list[dict[str, object]]:
        """Those that are pinned, the last pinned first, then those that were last used."""
        pins, affinity = self._router.pins, self._router.affinity
        latest = dict(islice(affinity.latest(), _ROWS))
        tied = {key: found for key in latest if (found := pins.tied(key)) is not None}
        shown_by = {what for what, _ in tied.values()}
        unseen = islice((pin for pin in pins if pin[0] not in shown_by), _ROWS)
        rows = []
        for what, replica in unseen:
            home = None if isinstance(what, str) else affinity.home(what, now)
            rows.append(self._row(what, home, (what, replica), now))
        rows += [self._row(key, latest[key], pin, now) for key, pin in tied.items()]
        rows += [self._row(key, home, None, now) for key, home in latest.items() if key not in tied]
        return rows

    def find(self, name: str) -> Pinned:
        """What was shown as `name`; raises ProxyError not_found."""
        if name not in self._shown:
            raise ProxyError("not_found", f"No conversation `{name}` was shown here of late.")
        return self._shown[name]

    def _row(
        self, what: Pinned, home: Home | None, pin: tuple[Pinned, str] | None, now: float
    ) -> dict[str, object]:
        return {
            "session": self._name(what),
            "replica": home.replica if home else None,
            "tokens": home.prompt_tokens if home else None,
            "idle_s": round(now - home.last_use, 1) if home else None,
            "pinned": pin[1] if pin else None,
            "pinned_with_session": pin is not None and isinstance(pin[0], str),
        }

    def _name(self, what: Pinned) -> str:
        name = session_label(what)
        self._shown[name] = what
        self._shown.move_to_end(name)
        if len(self._shown) > _NAMES_MAX:
            self._shown.popitem(last=False)
        return name


def session_label(key: Pinned) -> str:
    """A name to tell conversations apart by that says nothing of who they belong to."""
    text = key if isinstance(key, bytes) else "\0".join(_parts(key)).encode(errors="replace")
    return sha256(text).hexdigest()[:10]


def _parts(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key
