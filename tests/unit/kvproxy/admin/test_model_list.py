import json
from typing import Any

from kvproxy.admin.model_list import model_list
from kvproxy.core.life_cycle import Health
from kvproxy.core.pools import Arm, Pools
from tests.support.makers import make_replica


def test_names_have_the_card_of_what_they_stand_for() -> None:
    replicas = [make_replica("r"), make_replica("s", health=Health.DRAINING)]
    pools = Pools(lambda: replicas)
    names = {"alias": [Arm("gone"), Arm("m")], "none": [Arm("gone")], "away": [Arm("n")]}
    pools.replace(names, {})
    told: dict[str, list[dict[str, Any]]] = {
        "r": [{"id": "m", "max_model_len": 7}],
        "s": [{"id": "n"}],
    }
    page = json.loads(model_list(replicas, told, pools).body)
    assert page["data"] == [
        {"id": "m", "max_model_len": 7},
        {"id": "alias", "max_model_len": 7},
    ]
    for allowed, shown in ((["alias"], ["alias"]), (["m", "gone"], ["m"]), (["none"], [])):
        page = json.loads(model_list(replicas, told, pools, allowed).body)
        assert [card["id"] for card in page["data"]] == shown
