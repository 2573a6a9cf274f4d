from dataclasses import dataclass, field
from struct import pack

from loadgen.engine.block_log import BlockLog
from loadgen.engine_model import Engine, EngineLimits, EngineRates, Request

BLOCK = 16


@dataclass
class Contents(BlockLog):
    """What a listener knows to be held: keys with their copies."""

    hbm: dict[bytes, int] = field(default_factory=dict)
    dram: list[tuple[int, int]] = field(default_factory=list)
    chunks_gone: int = 0
    copies: list[tuple[str, int]] = field(default_factory=list)

    def stored(self, request: Request, start: int, stop: int, fresh: int) -> None:
        for at in range(stop - fresh, stop):
            key = request.chain[8 * at : 8 * at + 8]
            assert key not in self.hbm
            self.hbm[key] = 1
        if stop - fresh > start:
            self.copies.append((request.id, stop - fresh - start))

    def released(self, request: Request) -> None:
        self.copies = [copy for copy in self.copies if copy[0] != request.id]

    def evicted(self, keys: bytes) -> None:
        for at in range(0, len(keys), 8):
            del self.hbm[keys[at : at + 8]]

    def cleared(self) -> None:
        self.hbm.clear()

    def chunks_stored(self, request: Request, start: int, stop: int) -> None:
        self.dram.append((start, stop))

    def chunks_evicted(self, keys: bytes) -> None:
        self.chunks_gone += len(keys) // 8


def chain(number: int, blocks: int) -> bytes:
    return pack(f"<{blocks}Q", *(number * 10_000 + at + 1 for at in range(blocks)))


def run(engine: Engine, request: Request, now: float) -> float:
    engine.submit(request, now)
    while (at := engine.next_event_time()) is not None:
        now = at
        engine.advance(now)
    return now


def test_a_listener_knows_what_the_tree_holds() -> None:
    log = Contents()
    engine = Engine(EngineRates(), EngineLimits(hbm_tokens=100 * BLOCK, dram_tokens=512))
    engine.tell(log)
    now = 0.0
    for turn in range(40):
        number = turn % 7
        blocks = 20 + turn
        request = Request(str(turn), chain(number, blocks), blocks * BLOCK - 10, 8)
        now = run(engine, request, now)
        assert set(log.hbm) == engine._store.hbm.contents()
        assert log.copies == []
    assert log.dram[0] == (0, 16)
    assert log.chunks_gone > 0
    assert engine.reset_prefix_cache(now)
    assert log.hbm == {}
