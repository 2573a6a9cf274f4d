"""Who was not heard at the edge, for metrics: of a request that nobody read no more is told."""

from kvproxy.ops.tally import Tally


def turned_away() -> Tally:
    text = (
        "Connections and heads of requests that came to nothing: overloaded "
        "(server.max_connections), gave_way (idle, to others), or the error code that was answered"
    )
    return Tally("kvproxy_turned_away", text, ("reason",))
