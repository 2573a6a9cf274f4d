"""Bodies whose keys are escaped or repeated, so that nobody can tell where their values lie: what
engines read in them, and the same written plainly."""

from collections.abc import Mapping

import msgspec

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY = msgspec.json.Encoder().encode


def members_read(body: bytes) -> dict[str, bytes] | None:
    """As engines read an object, whose keys may be escaped or repeated: the last of each counts.
    None for what is none. Raises as object_spans()."""
    try:
        return {key: bytes(raw) for key, raw in _OBJECT.decode(body).items()}
    except msgspec.ValidationError:
        return None


def written_plainly(members: Mapping[str, bytes]) -> bytes:
    """An object that has them and no other."""
    return b"{%b}" % b",".join([b"%b:%b" % (_KEY(key), raw) for key, raw in members.items()])
