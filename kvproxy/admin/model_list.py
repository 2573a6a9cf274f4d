"""GET /v1/models: what can be asked for here."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from kvproxy.adapters.http1.listener import Page
from kvproxy.core.pools import Pools
from kvproxy.core.replica import Replica

Card = dict[str, Any]


def model_list(
    replicas: Sequence[Replica],
    told: Mapping[str, Sequence[Card]],
    pools: Pools,
    allowed: Collection[str] = (),
) -> Page:
    """The cards that ready replicas `told`, by replica id; of a model that several serve, one. A
    name that stands for others has the card of the first of them that is there. `allowed`: names
    that whoever asks may use, empty for all; of others nothing is said."""
    cards: dict[str, Card] = {
        str(card["id"]): card
        for replica in replicas
        if replica.up
        for card in told.get(replica.id, [])
    }
    named = {}
    for name in pools.names:
        found = next((cards[model] for model in pools.models(name) if model in cards), None)
        if found is not None:
            named[name] = found | {"id": name}
    listed = {**cards, **named}
    shown = [card for name, card in listed.items() if not allowed or name in allowed]
    return Page(orjson.dumps({"object": "list", "data": shown}))
