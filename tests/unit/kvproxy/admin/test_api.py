import orjson

from kvproxy.admin.api import AdminApi
from tests.support.makers import make_router


async def test_regime_comes_with_its_numbers() -> None:
    response = await AdminApi(make_router(2), lambda: 0.0).regime()
    assert response.content_type == "application/json"
    assert isinstance(response.body, bytes)
    found = orjson.loads(response.body)
    assert found["regime"] == "hbm_enough"
    assert found["hbm_tokens"] == found["usable_hbm_tokens"] == 200_000
