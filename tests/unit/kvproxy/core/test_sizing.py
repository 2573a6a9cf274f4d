import pytest

from kvproxy.core.model_kv import KvShape
from kvproxy.core.sizing import Memory, need, size

SHAPE = KvShape(layers=10, windowed=0, window=0, values=50, heads=1, dtype="bfloat16")


def test_what_fits() -> None:
    sized = size(SHAPE, Memory(hbm=2_000_000, dram=4_000_000, weights=800_000), None, 1)
    assert (sized.token_bytes, sized.hbm_tokens, sized.dram_tokens) == (1000, 1040, 4000)
    assert size(SHAPE, Memory(hbm=100, weights=1000), None, 1).hbm_tokens == 0


@pytest.mark.parametrize(
    ("conversations", "says"),
    [(4, "room to spare"), (9, "barely"), (30, "LMCache pays"), (50, "fit neither")],
)
def test_advice_follows_the_working_set(conversations: int, says: str) -> None:
    sized = size(SHAPE, Memory(hbm=1_000_000, dram=4_000_000, utilization=1.0), None, 1)
    found = need(sized, conversations, context=100, replicas=1)
    assert found.tokens == conversations * 100
    assert says in found.advice


def test_windows_alone_do_not_grow() -> None:
    windows = SHAPE._replace(layers=0, windowed=10, window=100)
    sized = size(windows, Memory(hbm=1_000_000), None, 1)
    assert (sized.token_bytes, sized.fixed_bytes) == (0, 100_000)
