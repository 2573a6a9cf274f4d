"""What may be told about blocks as they come and go; a replica that publishes KV events listens."""

from typing import Protocol

from loadgen.engine.messages import Request


class BlockLog(Protocol):
    """Ranges are of blocks of a request's chain; keys are hashes, 8 bytes each, in chain order."""

    def stored(self, request: Request, start: int, stop: int, fresh: int) -> None:
        """Blocks [start, stop) were computed or loaded, of which the last `fresh` are cached for
        the first time and the others are copies that only this request uses."""

    def released(self, request: Request) -> None:
        """The request gave its blocks back: its copies are gone."""

    def evicted(self, keys: bytes) -> None: ...

    def cleared(self) -> None:
        """All of HBM at once."""

    def chunks_stored(self, request: Request, start: int, stop: int) -> None:
        """Blocks [start, stop) are in the DRAM tier now."""

    def chunks_evicted(self, keys: bytes) -> None:
        """Chunks left the DRAM tier; each key is that of a chunk's last block."""
