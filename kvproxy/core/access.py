"""Who may do what: API keys, their tenants, models and limits.

Only digests of keys are kept. A key is looked up by its digest, so how long the look-up takes says
nothing about any key. Commands to engines need an admin key.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from math import inf
from urllib.parse import unquote

from kvproxy.core.bucket import Bucket
from kvproxy.core.errors import ProxyError
from kvproxy.core.transfers import Values, transfers

# What engines serve to those who use them. Everything else commands them: sleep, LoRA adapters,
# weights, cache resets, profiles, remote calls.
_USE = ("/v1/", "/v2/", "/inference/", "/cohere/")
_USE_EXACTLY = frozenset(
    {
        "/tokenize",
        "/detokenize",
        "/classify",
        "/score",
        "/rerank",
        "/pooling",
        "/ping",
        "/version",
        "/invocations",
        "/load",
    }
)
# Headers that keys come in.
CREDENTIALS = frozenset({"authorization", "x-api-key"})
_COMMANDS = frozenset({"/v1/load_lora_adapter", "/v1/unload_lora_adapter"})
_SLASHES, _DOTS = re.compile("//+"), re.compile(r"/\.(?:\.|/|$)")
_NOTHING: Values = {}


# What a path may decode to and be told further as it is: nothing that is more than a path.
_PLAIN_PATH = re.compile(r"[!$&'()*+,\-./0-9:;=@A-Z_a-z~]*")


class Realm(StrEnum):
    """What a path is there for."""

    USE = "use"
    COMMAND = "command"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Key:
    """`digest`: SHA-256 of the key, in hex. `models` empty: all. Rates a minute. `priority`: of all
    its requests, lower first; None: each request says its own."""

    name: str
    digest: str
    tenant: str
    models: frozenset[str] = frozenset()
    admin: bool = False
    requests_per_min: float = inf
    tokens_per_min: float = inf
    priority: int | None = None


@dataclass(slots=True)
class Caller:
    """A key in use, or everybody where there are no keys. `commands`: may command engines."""

    key: Key | None = None
    commands: bool = True
    requests: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=Bucket)

    @property
    def tenant(self) -> str:
        return self.key.tenant if self.key else ""

    def may_use(self, model: str, members: Values = _NOTHING) -> None:
        """Raises ProxyError model_not_found, as if it did not exist: the list of models of others
        is nobody's business. An empty `model` is one that could not be read. `members`: see
        may_say."""
        if self.key and self.key.models and model not in self.key.models:
            raise ProxyError(
                "model_not_found",
                f"The model `{model}` does not exist or this key may not use it.",
                param="model",
            )
        self.may_say(members)

    def may_say(self, members: Values) -> None:
        """Raises ProxyError forbidden for members of a body that command engines."""
        found = None if self.commands else transfers(members)
        if not found:
            return
        said = ", ".join(sorted(found))
        raise ProxyError(
            "forbidden",
            f"`{said}` is for engines among themselves; it takes an admin key (access.keys), or "
            "access.engine_commands where there are no keys.",
            param=said,
        )

    def used(self, tokens: int, now: float) -> None:
        """What a request turned out to cost."""
        self.tokens.take(tokens, now)


# Of a request that nobody was asked about yet.
UNASKED = Caller()


class Access:
    """`commands_open`: without keys, whatever an engine serves may be asked for."""

    def __init__(self, keys: Sequence[Key] = (), *, commands_open: bool = True) -> None:
        self._callers: dict[str, Caller] = {}
        self._by_name: dict[str, Caller] = {}
        self._everybody = Caller()
        self.replace(keys, commands_open=commands_open)

    def replace(self, keys: Sequence[Key], *, commands_open: bool) -> None:
        """Other keys from the next request on. What a key that stays has used stays used."""
        before, self._callers = self._callers, {}
        for key in keys:
            caller = before.get(key.digest)
            if caller is None or caller.key != key:
                requests, tokens = Bucket(key.requests_per_min), Bucket(key.tokens_per_min)
                caller = Caller(key, key.admin, requests, tokens)
            self._callers[key.digest] = caller
        self._by_name = {c.key.name: c for c in self._callers.values() if c.key is not None}
        self._commands_open = self._everybody.commands = commands_open

    @property
    def closed(self) -> bool:
        """Whether keys are asked for; if so they end here and are not shown to replicas."""
        return bool(self._callers)

    def enter(self, header: Mapping[str, str], realm: Realm, now: float) -> Caller:
        """Raises ProxyError unauthorized, forbidden or rate_limited. Header names in lower case."""
        if not self.closed:
            if realm is Realm.COMMAND and not self._commands_open:
                raise _forbidden("Engines take no commands through here (access.engine_commands)")
            return self._everybody
        caller = self._caller(header)
        assert caller.key is not None
        if realm is not Realm.USE and not caller.key.admin:
            raise _forbidden(f"The key `{caller.key.name}` is no admin key (access.keys)")
        if realm is Realm.USE:
            _count(caller, now)
        return caller

    def name_of(self, header: Mapping[str, str]) -> str:
        """Of the key that a request came with; "" without one that is known here."""
        caller = self._callers.get(_digest(_given(header)))
        return caller.key.name if caller is not None and caller.key is not None else ""

    def models_of(self, name: str) -> frozenset[str]:
        """Those that the key `name` is for, empty for all; of one that is gone no model has a name
        like that."""
        caller = self._by_name.get(name)
        if caller is not None and caller.key is not None:
            return caller.key.models
        return frozenset({""}) if self.closed else frozenset()

    def count(self, name: str, now: float) -> None:
        """A request of the key `name`; raises ProxyError rate_limited."""
        caller = self._by_name.get(name)
        if caller is not None:
            _count(caller, now)

    def used(self, name: str, tokens: int, now: float) -> None:
        """What a request of the key `name` turned out to cost."""
        caller = self._by_name.get(name)
        if caller is not None:
            caller.used(tokens, now)

    def _caller(self, header: Mapping[str, str]) -> Caller:
        given = _given(header)
        if not given:
            missing = "Send an API key: `Authorization: Bearer …` or `x-api-key: …`."
            raise ProxyError("unauthorized", missing)
        digest = _digest(given)
        if digest not in self._callers:
            raise ProxyError("unauthorized", "This API key is not known here.")
        return self._callers[digest]


def path_of(target: str) -> str:
    """What an engine takes for the path of a request: it decodes that, so that one is as good as
    the other. What cannot be told as it is stays as it was sent."""
    path = target.partition("?")[0]
    if "%" not in path:
        return path
    plain = unquote(path)
    return plain if _PLAIN_PATH.fullmatch(plain) else path


def realm_of(path: str) -> Realm:
    """`path` as it stands in the request. Engines decode it, so what it decodes to counts."""
    plain = unquote(path)
    named = plain.rstrip("/")
    if "//" in named:
        # What stands before an engine may fold them.
        named = _SLASHES.sub("/", named)
    if named in _COMMANDS or "#" in path or ("/." in plain and _DOTS.search(plain)):
        return Realm.COMMAND
    if plain.startswith(_USE) or plain in _USE_EXACTLY:
        return Realm.USE
    return Realm.COMMAND


def _given(header: Mapping[str, str]) -> str:
    scheme, _, credentials = header.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return header.get("x-api-key", "").strip()


def _digest(given: str) -> str:
    return sha256(given.encode(errors="surrogateescape")).hexdigest()


def _count(caller: Caller, now: float) -> None:
    waits = {"requests": caller.requests.wait_s(now), "tokens": caller.tokens.wait_s(now)}
    what = max(waits, key=lambda name: waits[name])
    if waits[what] > 0:
        assert caller.key is not None
        raise ProxyError(
            "rate_limited",
            f"The key `{caller.key.name}` has used its {what} a minute; "
            f"try again in {waits[what]:.0f} s.",
            retry_after_s=waits[what],
        )
    caller.requests.take(1, now)


def _forbidden(why: str) -> ProxyError:
    return ProxyError("forbidden", why + ".")
