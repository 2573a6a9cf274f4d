"""What an answer leaves for later turns: spellings they may repeat, a response to go on from."""

from dataclasses import dataclass

from kvproxy.core.answer import AnswerWatch
from kvproxy.core.dry_run import Reader
from kvproxy.core.response_homes import Kept, ResponseHomes, id_in
from kvproxy.core.turn import Turn
from kvproxy.core.types import Identity, Usage


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that ended, on `replica`; `whole` if it is a good one and nothing is missing."""

    turn: Turn
    identity: Identity
    replica: str
    usage: Usage | None
    whole: bool


def remember(
    reader: Reader, responses: ResponseHomes, watch: AnswerWatch, answered: Answered | None
) -> None:
    """`answered` is None for what is no prompt. A response that runs in the background is kept
    though its client left."""
    taken = watch.taken()
    if answered is None:
        return
    turn, tenant = answered.turn, answered.identity.tenant
    if answered.whole:
        reader.answered(turn, tenant, taken)
    response = id_in(watch.opening) if turn.dialect.continues else ""
    if not response:
        return
    session = answered.identity.session or response
    responses.keep(response, Kept(tenant, answered.replica, session))
    if answered.usage is not None:
        reader.responded(turn, tenant, response, answered.usage.completion_tokens)
