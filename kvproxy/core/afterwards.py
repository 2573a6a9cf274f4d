"""What an answer leaves for later turns: spellings they may repeat, a response to go on from."""

from kvproxy.core.answer import AnswerWatch
from kvproxy.core.dry_run import Reader
from kvproxy.core.response_homes import id_in
from kvproxy.core.turn import Turn
from kvproxy.core.types import Usage


def remember(
    reader: Reader, turn: Turn, tenant: str, watch: AnswerWatch, usage: Usage | None
) -> str:
    """A good answer to `turn` went by `watch`; returns the id that it can be gone on from, "" for
    none."""
    reader.answered(turn, tenant, watch.taken())
    response = id_in(watch.opening) if turn.dialect.continues else ""
    if response and usage is not None:
        reader.responded(turn, tenant, response, usage.completion_tokens)
    return response
