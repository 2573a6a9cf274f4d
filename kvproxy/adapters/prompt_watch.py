"""Finds out the token ids of prompts, off the request's path, for sources that know only those.

They are those that the engine told with its answer, or are made here (Tokenised), or are asked from
the replica. They tie the prompt to announced blocks, and LMCache
is asked for its chunks. Chunks have names then, by which they are asked again and again, the
longest unasked first.
"""

import asyncio
import logging
from array import array
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import aiohttp

from kvproxy.background import keep
from kvproxy.core.event_source import names_of
from kvproxy.core.holdings import Holdings
from kvproxy.core.lmcache import Instance, Keys, Lookup, by_replica
from kvproxy.core.loadable import Told
from kvproxy.core.replica import Replica
from kvproxy.core.spent import spent
from kvproxy.core.tokenise import NoPageError, Question, question
from kvproxy.core.types import Chain

log = logging.getLogger("kvproxy.tokens")

_PENDING_MAX = 64
_AT_A_TIME = 4
_AGAIN_MAX = 16
# Where there is no page to ask, a prompt is sent to look for one so seldom: it is a long one.
_LOOK_EVERY = 64
_PAGES_MAX = 1024
# Blocks named in one go, a millisecond or two: requests go between.
_SLICE_BLOCKS = 1024


class Request(NamedTuple):
    """`body` as it was forwarded, for `model`."""

    path: str
    body: bytes
    model: str = ""


class Prompt(NamedTuple):
    """A prompt that was answered, and the request it came in. `model` is what LMCache calls it;
    `tokens` are its ids where the engine told them."""

    replica: Replica
    model: str
    salt: str
    chain: Chain
    prompt_tokens: int
    request: Request
    tokens: "array[int] | None" = None


class Directory(Protocol):
    """Who holds what; None when nobody answered, and `heard` is whether anybody did of late."""

    @property
    def heard(self) -> bool: ...

    @property
    def instances(self) -> Mapping[str, Instance]: ...

    async def lookup(self, token_ids: Sequence[int], model: str, salt: str) -> Lookup | None: ...

    async def again(self, keys: Keys) -> Lookup | None: ...


TokensOf = Callable[[Replica, Question], Awaitable["array[int]"]]
# None where it cannot be tokenised here.
Tokenised = Callable[[Request, Chain], Awaitable["array[int] | None"]]


@dataclass(slots=True)
class WatchCounts:
    """Prompts asked about, told of by the engine's answer, tokenised here, those that came too fast
    for that, and those whose tokens were not to be had or not as many as the engine had counted."""

    asked: int = 0
    told: int = 0
    local: int = 0
    dropped: int = 0
    unlike: int = 0


class _Asked(NamedTuple):
    byte_blocks: int
    prompt_tokens: int
    keys: Keys


class PromptWatch:
    """answered() is what requests call. `directory`, asked every `interval_s`, is None without
    LMCache; `hosts` are those of the replicas by id, `named` pairs of servers and replicas.
    """

    def __init__(
        self,
        holdings: Holdings,
        directory: Directory | None,
        tokens_of: TokensOf,
        hosts: Mapping[str, str],
        *,
        named: Sequence[tuple[str, str]],
        interval_s: float,
        tokenised: Tokenised | None = None,
    ) -> None:
        self._tokenised = tokenised
        self.counts = WatchCounts()
        self._holdings = holdings
        self._loadable = holdings.loadable
        self._directory = directory
        self._tokens_of = tokens_of
        self._hosts = hosts
        self._named = named
        self._interval_s = interval_s
        self._pending: deque[Prompt] = deque(maxlen=_PENDING_MAX)
        self._asked: OrderedDict[int, _Asked] = OrderedDict()
        self._any = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._said: set[str] = set()
        # Replica, path and model, and for how many prompts there was no page.
        self._missing: dict[tuple[str, str, str], int] = {}

    def start(self) -> None:
        self._task = keep("prompts", self._watch)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wants(self, replica: Replica) -> bool:
        """Whether prompts of this replica should be told."""
        return self._directory is not None or self._holdings.wants_tokens(replica)

    def answered(self, prompt: Prompt) -> None:
        """It is asked for at once, or when LMCache's servers have had time to store it."""
        self.counts.dropped += len(self._pending) == _PENDING_MAX
        self._pending.append(prompt)
        self._any.set()

    async def _watch(self) -> None:
        while True:
            if self._directory is None:
                await self._any.wait()
                self._any.clear()
            else:
                await asyncio.sleep(self._interval_s)
            new = [self._pending.popleft() for _ in range(len(self._pending))]
            if self._directory is not None and not self._directory.heard:
                self._loadable.clear()
            await _few_at_a_time(self._ask(prompt) for prompt in new)
            again = list(self._asked)[:_AGAIN_MAX]
            await _few_at_a_time(self._ask_again(chain_end) for chain_end in again)

    async def _ask(self, prompt: Prompt) -> None:
        tokens = await self._tokens(prompt)
        if tokens is None:
            return
        chain = prompt.chain
        size = 0 if prompt.salt else self._holdings.anchors_by(prompt.replica)
        if size:
            names = await _named(tokens, size)
            self._holdings.tokenised(prompt.replica, chain, len(tokens), names, size)
        if self._directory is None:
            return
        found = await self._directory.lookup(tokens, prompt.model, prompt.salt)
        if found is None:
            return
        before = self._loadable.find(chain)
        if before is not None and before.byte_blocks < len(chain):
            self._forget(chain.hashes[before.byte_blocks - 1])
        if found.keys is not None:
            self._asked[chain.end] = _Asked(len(chain), prompt.prompt_tokens, found.keys)
        self._put(chain.end, len(chain), prompt.prompt_tokens, found)

    async def _tokens(self, prompt: Prompt) -> "array[int] | None":
        """From whom they are cheapest to have; None where nobody can tell."""
        if prompt.tokens is not None and len(prompt.tokens) == prompt.prompt_tokens:
            self.counts.told += 1
            return prompt.tokens
        if self._tokenised is not None:
            tokens = await self._tokenised(prompt.request, prompt.chain)
            if tokens is not None and len(tokens) == prompt.prompt_tokens:
                self.counts.local += 1
                return tokens
            if tokens is not None:
                self._differs(prompt, len(tokens))
        asked = question(prompt.request.path, prompt.request.body)
        page = (prompt.replica.id, asked.path if asked else "", prompt.request.model)
        if asked is None or not self._may_be_there(page):
            return None
        self.counts.asked += 1
        try:
            tokens = await self._tokens_of(prompt.replica, asked)
            self._missing.pop(page, None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._unlike(prompt, f"{type(error).__name__}: {error}")
            spent(error)
            if isinstance(error, NoPageError) and len(self._missing) < _PAGES_MAX:
                self._missing[page] = 1
            return None
        if len(tokens) != prompt.prompt_tokens:
            self._unlike(prompt, f"{len(tokens)} tokens, not {prompt.prompt_tokens}")
            return None
        return tokens

    def _may_be_there(self, page: tuple[str, str, str]) -> bool:
        missing = self._missing.get(page, 0)
        if missing % _LOOK_EVERY == 0:
            return True
        self._missing[page] = missing + 1
        self.counts.unlike += 1
        return False

    async def _ask_again(self, chain_end: int) -> None:
        asked = self._asked.pop(chain_end, None)
        if asked is None or not self._loadable.has_room_for(chain_end):
            return
        self._asked[chain_end] = asked
        assert self._directory is not None, "only its answers are kept"
        found = await self._directory.again(asked.keys)
        if found is not None and chain_end in self._asked:
            self._put(chain_end, asked.byte_blocks, asked.prompt_tokens, found)

    def _put(self, chain_end: int, byte_blocks: int, prompt_tokens: int, found: Lookup) -> None:
        assert self._directory is not None
        holds = by_replica(found.holdings, self._named, self._directory.instances, self._hosts)
        for left in self._loadable.put(chain_end, Told(byte_blocks, prompt_tokens, holds)):
            self._asked.pop(left, None)

    def _forget(self, chain_end: int) -> None:
        self._loadable.drop(chain_end)
        self._asked.pop(chain_end, None)

    def forget(self, replica: Replica) -> None:
        """It is gone; another one may come under its name."""
        self._said.discard(replica.id)
        for page in [page for page in self._missing if page[0] == replica.id]:
            del self._missing[page]

    def _differs(self, prompt: Prompt, count: int) -> None:
        model = prompt.request.model
        if f"model {model}" not in self._said:
            self._said.add(f"model {model}")
            log.warning(
                "the tokenizer for %s makes %d tokens of a prompt that replica %s counts as %d: "
                "tokens.tokenizers must name the folder that the engine loads; it is asked instead",
                model, count, prompt.replica.id, prompt.prompt_tokens,
            )  # fmt: skip

    def _unlike(self, prompt: Prompt, why: str) -> None:
        self.counts.unlike += 1
        if prompt.replica.id not in self._said:
            self._said.add(prompt.replica.id)
            log.warning(
                "replica %s does not tell the tokens of a prompt (%s), so its events and LMCache "
                "cannot tell of it; for messages and responses it needs --enable-scale-out",
                prompt.replica.id, why,
            )  # fmt: skip


async def _named(tokens: "array[int]", block_size: int) -> "array[int]":
    """names_of(), in slices."""
    names, step = array("Q"), _SLICE_BLOCKS * block_size
    for at in range(0, len(tokens), step):
        names += names_of(tokens[at : at + step], block_size, names[-1] if names else None)
        await asyncio.sleep(0)
    return names


async def _few_at_a_time(asking: Iterable[Awaitable[None]]) -> None:
    todo = iter(asking)

    async def work() -> None:
        for each in todo:
            await each

    await asyncio.gather(*(work() for _ in range(_AT_A_TIME)))
