"""What an answer leaves for later turns: spellings they may repeat, a response to go on from."""

from kvproxy.core.answer import AnswerWatch
from kvproxy.core.dry_run import Reader
from kvproxy.core.placement import Placement
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


def used_tokens(usage: Usage | None, placement: Placement) -> int:
    """What a good answer, or one that was broken off, cost its key: as reported, or else of one
    that was begun the tokens of its prompt, as estimated. Streams report nothing unless their
    client asks for it, and whoever leaves before the end has used an engine all the same."""
    if usage is not None:
        return usage.prompt_tokens + usage.completion_tokens
    return placement.placing.prompt_tokens if placement.hold.first_token_at is not None else 0
