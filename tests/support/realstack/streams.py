"""A stream without what depends on how busy its engine was.

An engine whose front end is late puts several tokens into one chunk. What is said is then the same,
and so is every byte around it; only where one chunk ends and the next begins is not.
"""

import re
from typing import NamedTuple

_TEXT = re.compile(rb'"(content|text|partial_json|delta|arguments|reasoning)":"((?:[^"\\]|\\.)*)"')
_IDS = re.compile(rb'"(token_ids)":\[([\d,]+)\]')
# These count tokens or events up.
_COUNT = re.compile(rb'"(sequence_number|completion_tokens|total_tokens)":(\d+)')
_CHOICE = re.compile(rb'"choices":\[\{"index":(\d+)')


class Told(NamedTuple):
    """Of each choice: its events with nothing said in them, like ones that follow each other as
    one, and what they say together. `counts` is how far each count went, events aside."""

    events: dict[bytes, list[bytes]]
    said: dict[tuple[bytes, bytes], bytes]
    counts: dict[bytes, bytes]


def told(body: bytes) -> Told:
    events: dict[bytes, list[bytes]] = {}
    said: dict[tuple[bytes, bytes], bytes] = {}
    counts: dict[bytes, bytes] = {}
    several = len(set(_CHOICE.findall(body))) > 1
    for event in body.split(b"\n\n"):
        # Choices take turns as it happens.
        found = _CHOICE.search(event) if several else None
        choice = found[1] if found else b""
        for kind, text in _TEXT.findall(event):
            said[choice, kind] = said.get((choice, kind), b"") + text
        for kind, ids in _IDS.findall(event):
            said[choice, kind] = said.get((choice, kind), b"") + ids + b","
        counts |= dict(_COUNT.findall(event))
        shape = _COUNT.sub(rb'"\1":0', _IDS.sub(rb'"\1":[]', _TEXT.sub(rb'"\1":""', event)))
        ours = events.setdefault(choice, [])
        if not ours or ours[-1] != shape:
            ours.append(shape)
    counts.pop(b"sequence_number", None)
    return Told(events, said, counts)
