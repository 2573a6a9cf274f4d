from loadgen.emulator.planted import HELP, Planted


def test_every_fault_says_what_it_is() -> None:
    assert set(HELP) == set(Planted)
    assert all(HELP.values())
