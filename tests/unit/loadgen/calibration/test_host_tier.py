import pytest

torch = pytest.importorskip("torch", reason="torch is optional: pip install kvproxy[calibrate]")

from loadgen.calibration.host_tier import LAYOUTS, HostTier, Layout  # noqa: E402


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("block", [16, 64])
def test_blocks_arrive_in_their_pages(layout: Layout, block: int) -> None:
    tier = HostTier(3, 32, tokens=256, block=block, device="cpu", seed=5)
    assert not tier.loaded(256)
    tier.load(128, layout)
    assert tier.loaded(128)
    assert not tier.loaded(256)
    tier.load(256, layout)
    assert tier.loaded(256)
    assert tier.token_bytes == 2 * 3 * 32


def test_what_is_stored_can_be_loaded_again() -> None:
    tier = HostTier(2, 32, tokens=64, block=16, device="cpu")
    tier.load(64, "chunk")
    before = tier.host.clone()
    tier.host.zero_()
    tier.store(64)
    assert torch.equal(tier.host, before)


def test_addresses_are_those_of_the_pieces() -> None:
    tier = HostTier(2, 32, tokens=64, block=16, device="cpu", seed=1)
    to, source, sizes = tier._addresses(4)
    assert set(sizes) == {16 * 32}
    offsets = [address - tier.pages.data_ptr() for address in to]
    assert sorted(offsets) == [16 * 32 * n for n in range(16)]
    words = tier.pages.flatten()
    for start, origin in zip(offsets, source, strict=True):
        at = (origin - tier.host.data_ptr()) // 8
        words[start // 8 : start // 8 + 64] = tier.host.flatten()[at : at + 64]
    assert tier.loaded(64)
    assert tier.page_copies == "one call each"
