from kvproxy.admin.doctor.examine import Order, examine
from loadgen.emulator import emulated
from tests.support.doctor import planted


async def test_what_goes_on_is_told() -> None:
    said: list[str] = []
    async with emulated(planted()) as [url]:
        order = Order({url: "r0"}, keepalive_s=0.01, pause_s=0.01, tensor_parallel=2, probing=True)
        fleet = await examine(order, said.append)
    assert said[0].startswith("looking at 1 replicas")
    assert said[1] == "probing r0: one prompt, twice"
    assert fleet.replicas[0].tensor_parallel == 2
    assert fleet.today
