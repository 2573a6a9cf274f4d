"""Requests by the model that served them."""

from collections.abc import Callable

from kvproxy.ops.tally import Tally
from kvproxy.proxy import Record

# Adapters come and go.
_MODELS_MAX = 200
_OTHER = "other"


class ModelCounters:
    """`model` is the name replicas know; those beyond the first few hundred are `other`,
    and so is what clients ask of a replica that does not say what it serves."""

    def __init__(self, show: Callable[[Tally], None]) -> None:
        self.requests = Tally(
            "kvproxy_model_requests",
            "Requests that were placed, by the model they were served by and outcome",
            ("model", "outcome"),
        )
        self._known: set[str] = set()
        show(self.requests)

    def observe(self, record: Record) -> None:
        if record.placement is None:
            return
        model = record.identity.model if record.identity else record.passing_model
        if not model:
            return
        if model not in record.placement.replica.models:
            model = _OTHER
        elif model not in self._known:
            if len(self._known) >= _MODELS_MAX:
                model = _OTHER
            else:
                self._known.add(model)
        self.requests.add((model, record.outcome))
