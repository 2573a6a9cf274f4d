"""Canonicalising without acting: bodies are read and forwarded as they came, and beside that it is
noted what would have been changed."""

from typing import Protocol

from msgspec.structs import replace

from kvproxy.core.dialects.base import Dialect
from kvproxy.core.echo import Tap
from kvproxy.core.pieces import Body
from kvproxy.core.turn import Turn, TurnReader


class Reader(Protocol):
    def read(
        self, dialect: Dialect, tenant: str, body: Body, session: str = "", *, anew: bool = False
    ) -> Turn: ...

    def tap(self, turn: Turn) -> Tap | None: ...

    def answered(self, turn: Turn, tenant: str, answer: bytes) -> None: ...

    def responded(self, turn: Turn, tenant: str, response: str, answer_tokens: int) -> None: ...


class DryReader:
    """`plain` changes nothing, so its chains are those of what is forwarded; `acting` would."""

    def __init__(self, plain: TurnReader, acting: TurnReader) -> None:
        self._plain = plain
        self._acting = acting

    def read(
        self, dialect: Dialect, tenant: str, body: Body, session: str = "", *, anew: bool = False
    ) -> Turn:
        turn = self._plain.read(dialect, tenant, body, session)
        assert all(splice.kind == "model" for splice in turn.splices), "it preserves everything"
        would = self._acting.read(dialect, tenant, body, session, anew=anew).splices
        would = [splice for splice in would if splice.kind != "model"]
        return replace(turn, not_applied=would)

    def tap(self, turn: Turn) -> Tap | None:
        return self._acting.tap(turn)

    def answered(self, turn: Turn, tenant: str, answer: bytes) -> None:
        self._acting.answered(turn, tenant, answer)

    def responded(self, turn: Turn, tenant: str, response: str, answer_tokens: int) -> None:
        for reader in (self._plain, self._acting):
            reader.responded(turn, tenant, response, answer_tokens)
