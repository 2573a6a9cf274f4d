import asyncio

from loadgen.emulator.transfers import Granted, Ledger


def granted(gone: list[str], name: str = "a") -> Granted:
    return Granted(b"", 100, lambda: gone.append(name))


async def test_what_was_loaded_is_let_go_once() -> None:
    ledger, gone = Ledger(), []
    ledger.grant("a", granted(gone), 30.0)
    ledger.take("a")
    ledger.take("a")
    assert gone == ["a"]
    assert (ledger.loaded, ledger.expired, ledger.granted) == (1, 0, {})


async def test_a_lease_ends() -> None:
    ledger, gone = Ledger(), []
    ledger.grant("a", granted(gone), 0.0)
    await asyncio.sleep(0.01)
    assert gone == ["a"]
    assert (ledger.loaded, ledger.expired) == (0, 1)


async def test_a_leg_waits_for_the_one_beside_it() -> None:
    ledger, gone = Ledger(), []
    waiting = asyncio.create_task(ledger.wait("a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    one = granted(gone)
    ledger.grant("a", one, 30.0)
    assert await waiting is one
    ledger.close()
    assert gone == []
