import orjson

from kvproxy.admin.api import AdminApi
from kvproxy.ops.explanations import Explanations
from tests.support.fake_ports import World, stream
from tests.support.makers import make_router

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def api(explanations: Explanations | None = None) -> AdminApi:
    return AdminApi(make_router(2), lambda: 0.0, explanations or Explanations(0))


async def test_regime_comes_with_its_numbers() -> None:
    response = await api().regime("")
    assert response.content_type == "application/json"
    assert isinstance(response.body, bytes)
    found = orjson.loads(response.body)
    assert found["regime"] == "hbm_enough"
    assert found["hbm_tokens"] == found["usable_hbm_tokens"] == 200_000


async def test_requests_are_explained_by_their_id() -> None:
    world, kept = World(stream("a"), replicas=1), Explanations(2**20)
    exchange = world.exchange(BODY)
    await world.proxy.handle(exchange)
    kept.add(world.records[0])
    page = await AdminApi(world.router, lambda: 0.0, kept).explain(
        f"x=1&request_id={exchange.request_id}"
    )
    assert page.status == 200
    assert orjson.loads(page.body)["request_id"] == exchange.request_id


async def test_unknown_requests_are_not() -> None:
    for query in ("", "request_id=", "request_id=other"):
        page = await api().explain(query)
        assert page.status == 404
        assert "error" in orjson.loads(page.body)
