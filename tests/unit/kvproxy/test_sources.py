"""What of the settings becomes a source; `tests/integration` has them all at work."""

from kvproxy.app import build_router
from kvproxy.core.kv_sources import KvSource
from kvproxy.settings.model import Settings
from kvproxy.sources import Sources
from tests.support.makers import make_replica


def sources(**sections: object) -> Sources:
    settings = Settings.model_validate({"replicas": ["http://10.0.0.1:8000"], **sections})
    return Sources(settings, build_router(settings), {}, lambda replica, model: model)


async def test_without_lmcache_nobody_is_asked() -> None:
    made = sources(events={"enabled": "off"})
    await made.start()
    assert made.lmcache is None
    assert {each.name for each in made.counted()} == {"kvproxy_tokenised_prompts"}
    assert not any(each.value for each in made.counted())
    assert not made.prompts.wants(make_replica("r"))
    await made.close()


async def test_figures_of_a_replicas_streams_are_added_up() -> None:
    made = sources(lmcache={"coordinator_url": "http://127.0.0.1:1", "instances": ["n=r"]})
    replica = make_replica("r")
    for rank in range(2):
        made.feed.follow(KvSource("r", rank, f"tcp://127.0.0.1:{rank + 1}", "", ""), replica)
    for counts in made.feed.counts.values():
        counts.gaps = 3
    found = {(each.name, *each.labels.values()): each.value for each in made.counted()}
    assert found["kvproxy_events_gaps", "r"] == 6
    assert found["kvproxy_lmcache_questions", "failed"] == 0
    assert found["kvproxy_lmcache_heard",] == 1
    await made.close()
