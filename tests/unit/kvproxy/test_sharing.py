import pytest

from kvproxy.app import App
from kvproxy.core.representatives import Representatives
from kvproxy.settings.model import Settings
from kvproxy.sharing import Sharing
from tests.support.makers import make_router


def settings(**store: object) -> Settings:
    return Settings.model_validate({"replicas": ["http://h:1"], "store": store})


def test_alone_by_default() -> None:
    router = make_router()
    before = router.key_of
    sharing = Sharing(settings(), router, Representatives(1000))
    assert sharing.store is None
    assert list(sharing.counted()) == []
    assert router.key_of is before


async def test_figures_of_one_that_shares() -> None:
    router = make_router()
    sharing = Sharing(settings(url="redis://127.0.0.1:1"), router, Representatives(1000))
    figures = {each.name: each.value for each in sharing.counted()}
    assert figures["kvproxy_store_up"] == 0.0
    assert "kvproxy_store_questions" in figures
    await sharing.start()
    assert sharing.store is not None
    assert not sharing.store.link.up
    await sharing.close()


def test_without_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name="redis")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(SystemExit, match=r"kvproxy\[store\]"):
        Sharing(settings(url="redis://h:1"), make_router(), Representatives(1000))


async def test_a_share_of_the_replicas_is_listened_to_where_settings_say_so() -> None:
    asked = {"replicas": ["http://h:1"], "store": {"url": "redis://127.0.0.1:1"}}
    for sharded in (False, True):
        app = App(Settings.model_validate(asked | {"events": {"shard_across_proxies": sharded}}))
        assert (app.sharing.shares is not None) == sharded
        figures = {each.name for each in app.sharing.counted()}
        assert ("kvproxy_event_sources" in figures) == sharded
        shares, discovery = app.sharing.shares, app.sources.discovery
        assert discovery._follow == (app.sources.feed.follow if shares is None else shares.follow)
        await app.sharing.start()
        await app.sharing.close()
