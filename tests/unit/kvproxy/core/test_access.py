from hashlib import sha256

import pytest

from kvproxy.core.access import Access, Key, Realm, path_of, realm_of
from kvproxy.core.errors import ProxyError


def made(name: str, **given: object) -> Key:
    digest = sha256(f"secret-{name}".encode()).hexdigest()
    return Key(name, digest, name, **given)  # type: ignore[arg-type]


ACCESS = Access([made("alice", models=frozenset({"m"})), made("root", admin=True)])
ALICE = {"authorization": "Bearer secret-alice"}
ROOT = {"x-api-key": "secret-root"}


@pytest.mark.parametrize(
    ("header", "realm", "outcome"),
    [
        ({}, Realm.USE, "unauthorized"),
        ({"authorization": "Bearer "}, Realm.USE, "unauthorized"),
        ({"authorization": "Basic secret-alice"}, Realm.USE, "unauthorized"),
        ({"authorization": "Bearer secret-alic"}, Realm.USE, "unauthorized"),
        ({"x-api-key": "\udcff"}, Realm.USE, "unauthorized"),
        ({}, Realm.COMMAND, "unauthorized"),
        ({}, Realm.OPERATE, "unauthorized"),
        (ALICE, Realm.USE, "alice"),
        ({"authorization": "bearer  secret-alice "}, Realm.USE, "alice"),
        ({"x-api-key": "secret-alice"}, Realm.USE, "alice"),
        ({"authorization": "Basic x", "x-api-key": "secret-alice"}, Realm.USE, "alice"),
        (ALICE, Realm.COMMAND, "forbidden"),
        (ALICE, Realm.OPERATE, "forbidden"),
        (ROOT, Realm.USE, "root"),
        (ROOT, Realm.COMMAND, "root"),
        (ROOT, Realm.OPERATE, "root"),
    ],
)
def test_who_may_do_what(header: dict[str, str], realm: Realm, outcome: str) -> None:
    if outcome in ("alice", "root"):
        assert ACCESS.enter(header, realm, 0.0).tenant == outcome
        return
    with pytest.raises(ProxyError) as raised:
        ACCESS.enter(header, realm, 0.0)
    assert raised.value.code == outcome
    assert "secret" not in raised.value.message


def test_without_keys_prompts_pass_and_commands_if_they_may() -> None:
    access = Access(commands_open=False)
    assert not access.closed
    assert access.enter({}, Realm.USE, 0.0).tenant == ""
    assert access.enter({}, Realm.OPERATE, 0.0).tenant == ""
    with pytest.raises(ProxyError) as raised:
        access.enter({}, Realm.COMMAND, 0.0)
    assert raised.value.code == "forbidden"
    assert Access().enter({}, Realm.COMMAND, 0.0).key is None


def test_models_of_others_do_not_exist() -> None:
    alice, root = ACCESS.enter(ALICE, Realm.USE, 0.0), ACCESS.enter(ROOT, Realm.USE, 0.0)
    alice.may_use("m")
    root.may_use("anything")
    with pytest.raises(ProxyError) as raised:
        alice.may_use("other")
    assert raised.value.code == "model_not_found"


def test_each_key_has_its_own_rate() -> None:
    access = Access([made("a", requests_per_min=2), made("b")])
    header = {"x-api-key": "secret-a"}
    for _ in range(2):
        access.enter(header, Realm.USE, 10.0)
    with pytest.raises(ProxyError) as raised:
        access.enter(header, Realm.USE, 10.0)
    assert raised.value.code == "rate_limited"
    assert raised.value.retry_after_s == pytest.approx(30.0)
    access.enter({"x-api-key": "secret-b"}, Realm.USE, 10.0)
    access.enter(header, Realm.USE, 40.1)


def test_tokens_are_counted_when_they_are_known() -> None:
    access = Access([made("a", tokens_per_min=1000)])
    header = {"x-api-key": "secret-a"}
    access.enter(header, Realm.USE, 0.0).used(1500, 1.0)
    with pytest.raises(ProxyError, match="its tokens a minute"):
        access.enter(header, Realm.USE, 1.0)
    access.enter(header, Realm.USE, 40.0)


@pytest.mark.parametrize(
    ("path", "realm"),
    [
        ("/v1/chat/completions", Realm.USE),
        ("/v1/anything/new", Realm.USE),
        ("/tokenize", Realm.USE),
        ("/inference/v1/generate", Realm.USE),
        ("/sleep", Realm.COMMAND),
        ("/%73leep", Realm.COMMAND),
        ("/v1/load_lora_adapter", Realm.COMMAND),
        ("/v1/load_lora_adapter/", Realm.COMMAND),
        ("/v1/%6coad_lora_adapter", Realm.COMMAND),
        ("/v1%2funload_lora_adapter", Realm.COMMAND),
        ("/collective_rpc", Realm.COMMAND),
        ("/v1/../sleep", Realm.COMMAND),
        ("/V1/chat/completions", Realm.COMMAND),
        ("/", Realm.COMMAND),
        ("", Realm.COMMAND),
        ("/v1/load_lora_adapter#x", Realm.COMMAND),
        ("/v1//load_lora_adapter", Realm.COMMAND),
        ("//v1///unload_lora_adapter//", Realm.COMMAND),
        ("/v1/%2fload_lora_adapter", Realm.COMMAND),
        ("/v1/./load_lora_adapter", Realm.COMMAND),
        ("/v1/models/.", Realm.COMMAND),
        ("/v1//chat/completions", Realm.USE),
        ("/v1/files/.hidden", Realm.USE),
    ],
)
def test_what_a_path_is_there_for(path: str, realm: Realm) -> None:
    assert realm_of(path) is realm


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/models", "/v1/models"),
        ("/v1/models?a=%20", "/v1/models"),
        ("/v1/%6dodels?a", "/v1/models"),
        ("/v1%2Fmodels", "/v1/models"),
        *[(target, target) for target in ("/a%0ab", "/a%20b", "/a%3fb", "/a%23b", "/%2573leep")],
        *[(target, target) for target in ("/%", "/%zz", "/%c3%a9", "/%1b[31m", "/%22")],
    ],
)
def test_a_path_is_what_an_engine_takes_it_for(target: str, path: str) -> None:
    assert path_of(target) == path


def test_keys_are_replaced_and_what_was_used_stays_used() -> None:
    access = Access([made("alice", requests_per_min=1), made("bob")])
    access.enter(ALICE, Realm.USE, 0.0)
    access.replace([made("alice", requests_per_min=1)], commands_open=False)
    with pytest.raises(ProxyError) as raised:
        access.enter(ALICE, Realm.USE, 0.0)
    assert raised.value.code == "rate_limited"
    with pytest.raises(ProxyError, match="not known"):
        access.enter({"x-api-key": "secret-bob"}, Realm.USE, 0.0)
    access.replace([], commands_open=False)
    assert not access.closed
    with pytest.raises(ProxyError, match="no commands"):
        access.enter({}, Realm.COMMAND, 0.0)


ENGINES_OWN = ["kv_transfer_params", "ec_transfer_params", "bootstrap_room", "bootstrap_host"]


@pytest.mark.parametrize("member", ENGINES_OWN)
def test_clients_do_not_say_where_engines_fetch_kv_from(member: str) -> None:
    said = {"model": None, member: None}
    ACCESS.enter(ROOT, Realm.USE, 0.0).may_say(said)
    ACCESS.enter(ALICE, Realm.USE, 0.0).may_say({"model": None})
    Access().enter({}, Realm.USE, 0.0).may_say(said)
    closed = Access(commands_open=False).enter({}, Realm.USE, 0.0)
    for caller in (ACCESS.enter(ALICE, Realm.USE, 0.0), closed):
        with pytest.raises(ProxyError, match=member) as raised:
            caller.may_say(said)
        assert raised.value.code == "forbidden"


@pytest.mark.parametrize(
    ("header", "name"),
    [(ROOT, "root"), (ALICE, "alice"), ({}, ""), ({"authorization": "Bearer other"}, "")],
)
def test_whose_key_it_is(header: dict[str, str], name: str) -> None:
    assert ACCESS.name_of(header) == name
    assert Access().name_of(header) == ""


def test_which_models_a_key_is_for() -> None:
    access = Access([made("alice", models=frozenset({"m"})), made("bob")])
    found = [access.models_of(name) for name in ("alice", "bob", "none", "")]
    assert found == [{"m"}, set(), {""}, {""}]
    assert Access().models_of("") == set()


def test_as_many_keys_as_there_may_be_are_replaced_in_one_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reload must not stop the loop for seconds."""

    def keys() -> list[Key]:
        return [Key(f"key {n}", f"{n:064x}", "t", tokens_per_min=100) for n in range(1000)]

    access, compared = Access(keys()), list[None]()
    equals = Key.__eq__

    def counted(one: Key, other: object) -> bool:
        compared.append(None)
        return equals(one, other)

    access.used("key 7", 99, 0.0)
    monkeypatch.setattr(Key, "__eq__", counted)
    access.replace(keys(), commands_open=True)
    assert len(compared) <= 1000
    access.used("key 7", 1, 0.0)
    with pytest.raises(ProxyError, match="its tokens a minute"):
        access.count("key 7", 0.0)
    access.count("key 8", 0.0)
