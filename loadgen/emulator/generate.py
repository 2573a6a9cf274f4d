"""Generations over HTTP: from prompts' tokens to an answer, streamed or whole."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web
from xxhash import xxh3_64_hexdigest

from loadgen.chat_template import ChatTemplate
from loadgen.emulator import errors
from loadgen.emulator.answers import Answer, Dialect, Hits, Writer
from loadgen.emulator.block_events import Prompt
from loadgen.emulator.planted import Planted
from loadgen.emulator.replica import EngineDeadError, Inflight, Replica, Work
from loadgen.emulator.replies import Reply, Speaker
from loadgen.emulator.requests import ChatCall, CompletionCall, Sampling
from loadgen.emulator.settings import EmulatorSettings
from loadgen.emulator.transfer_legs import Leg
from loadgen.emulator.transfers import Transfers
from loadgen.engine_model import Admitted, ChainHasher, FirstToken, Tokens
from loadgen.tokens import TOKEN_BYTES, Tokeniser, ids_to_bytes, render


class Generator:
    """Serves generations on one replica. Raises ApiError before the first byte; after it an
    engine failure becomes what the dialect makes of it."""

    def __init__(
        self,
        settings: EmulatorSettings,
        tokeniser: Tokeniser,
        replica: Replica,
        transfers: Transfers,
    ) -> None:
        self._settings = settings
        self._transfers = transfers
        self._tokeniser = tokeniser
        self._replica = replica
        self._template = ChatTemplate(keeps_billing=settings.keeps_billing)
        self._hasher = ChainHasher(settings.block_size)
        self._speaker = Speaker(tokeniser, settings.context_tokens, settings.seed)
        self._serial = 0

    def chat_prompt(self, call: ChatCall) -> bytes:
        """Tokens of a conversation, 4 bytes each."""
        pieces = self._template.pieces(
            call.messages,
            call.tools,
            generation_prompt=call.generation_prompt,
            continues=call.continues,
        )
        if Planted.DATED_TEMPLATE in self._settings.planted:
            today = datetime.now(UTC).strftime("%d %b %Y")
            pieces = [f"Today Date: {today}\n", *pieces]
        return render(self._tokeniser, pieces)

    def text_prompt(self, prompt: str | list[int]) -> bytes:
        if isinstance(prompt, str):
            return self._tokeniser.encode(prompt)
        try:
            return ids_to_bytes(prompt)
        except ValueError as error:
            worst = max(prompt, key=abs)
            raise errors.refused(f"Token id {worst} is out of vocabulary") from error

    def prompts(self, call: ChatCall | CompletionCall) -> list[bytes]:
        if isinstance(call, ChatCall):
            return [self.chat_prompt(call)]
        return [self.text_prompt(prompt) for prompt in call.prompts]

    async def serve(
        self,
        request: web.Request,
        call: ChatCall | CompletionCall,
        dialect: Dialect,
        fields: dict[str, Any],
    ) -> web.StreamResponse:
        """The answer to a checked call, which was read from `fields`; the engine forgets the
        request when this returns or is cancelled, whichever way."""
        self.check_model(call.sampling.model)
        sampling = call.sampling
        leg = self._transfers.leg_of(fields, request.headers.get("x-request-id", ""), sampling)
        prompts = self._handed_on(fields) or self.prompts(call)
        answer = self._answer(request, call, dialect, prompts, leg)
        session = sampling.session_id or request.headers.get("x-session-id", "")
        works = [self._work(answer, index, session) for index in range(len(answer.replies))]
        works[0] = await self._transfers.prepare(leg, works[0])
        try:
            inflight = self._replica.submit(works)
        except EngineDeadError as error:
            raise errors.engine_dead() from error
        writer = dialect.writer(answer)
        progress = _Progress(
            answer,
            self._settings.block_size,
            lambda: self._transfers.loaded(leg, works[0]),
            told=Planted.NO_TOKEN_DETAILS not in self._settings.planted,
        )
        try:
            if sampling.stream:
                return await self._stream(request, writer, progress, inflight)
            response = await self._whole(writer, progress, inflight)
            self._transfers.computed(leg, works[0], inflight.ids[0])
            return response
        finally:
            self._replica.release(inflight)

    def _handed_on(self, fields: dict[str, Any]) -> list[bytes]:
        """The prompt in tokens, as a replica that computed it tells them."""
        tokens = (fields.get("kv_transfer_params") or {}).get("prompt_token_ids")
        return [self.text_prompt(tokens)] if tokens else []

    def check_model(self, name: str | None) -> None:
        if name is not None and name != self._settings.model:
            raise errors.unknown_model(name, self._settings.model)

    def _answer(
        self,
        request: web.Request,
        call: ChatCall | CompletionCall,
        dialect: Dialect,
        prompts: list[bytes],
        leg: Leg | None,
    ) -> Answer:
        sampling = call.sampling
        for prompt in prompts:
            self._check_lengths(prompt, sampling)
        chat = call if isinstance(call, ChatCall) else None
        replies: list[Reply] = [
            self._speaker.reply(prompt, sampling, chat, choice)
            for prompt in prompts
            for choice in range(sampling.count)
        ]
        self._serial += 1
        name = request.headers.get("x-request-id") if dialect.named_by_client else None
        return Answer(
            id=dialect.prefix + (name or xxh3_64_hexdigest(prompts[0], self._serial)),
            created=int(time.time()),
            model=self._settings.model,
            sampling=sampling,
            prompts=prompts,
            replies=replies,
            grant=leg.grant if leg is not None else None,
        )

    def _work(self, answer: Answer, choice: int, session: str) -> Work:
        prompt, reply = answer.prompt(choice), answer.replies[choice]
        tokens, salt = prompt + reply.tokens, answer.sampling.cache_salt
        seen = f"{salt}/{self._serial}" if Planted.FORGETS in self._settings.planted else salt
        return Work(
            chain=self._hasher.chain(tokens, seen),
            prompt_tokens=len(prompt) // TOKEN_BYTES,
            output_tokens=reply.count,
            finish_reason=reply.finish_reason,
            prompt=Prompt(tokens, session, salt),
        )

    async def _whole(
        self, writer: Writer, progress: "_Progress", inflight: Inflight
    ) -> web.Response:
        try:
            while not inflight.finished:
                progress.learn(await inflight.take())
        except EngineDeadError as error:
            raise errors.engine_dead() from error
        body = orjson.dumps(writer.whole(progress.hits()))
        return web.Response(body=body, content_type="application/json")

    async def _stream(
        self, request: web.Request, writer: Writer, progress: "_Progress", inflight: Inflight
    ) -> web.StreamResponse:
        # Like vLLM the headers leave before the first token, so that a failure after this point
        # is an event in a stream of status 200.
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        try:
            await response.prepare(request)
            try:
                await self._events(response, writer, progress, inflight)
            except EngineDeadError:
                await _last_words(request, response, writer.broken())
            await response.write_eof()
        except ConnectionError:
            pass  # the client left; the caller aborts the request
        return response

    async def _events(
        self,
        response: web.StreamResponse,
        writer: Writer,
        progress: "_Progress",
        inflight: Inflight,
    ) -> None:
        opening = writer.opening()
        if opening:
            await response.write(opening)
        finished = False
        while not finished:
            due = progress.learn(await inflight.take())
            finished = inflight.finished
            data = b"".join(writer.tokens(progress.hits(), *span) for span in due)
            if finished:
                data += writer.closing(progress.hits())
            if data:
                await response.write(data)

    def _check_lengths(self, prompt: bytes, sampling: Sampling) -> None:
        context, wanted = self._settings.context_tokens, sampling.max_tokens or 0
        if wanted > context:
            raise errors.output_too_long(sampling.max_tokens_name, wanted, context)
        if len(prompt) // TOKEN_BYTES >= context:
            raise errors.prompt_too_long(context)


async def _last_words(
    request: web.Request, response: web.StreamResponse, words: bytes | None
) -> None:
    """What the engine's death leaves of a stream; None cuts the connection."""
    if words is not None:
        await response.write(words)
    elif request.transport is not None:
        request.transport.abort()


class _Progress:
    """What the engine has said about an answer; `begun` is called at the first token."""

    def __init__(
        self, answer: Answer, block_size: int, begun: Callable[[], None], *, told: bool
    ) -> None:
        self._begun = begun
        self._prompt_tokens = sum(len(prompt) // TOKEN_BYTES for prompt in answer.prompts)
        self._block_size = block_size
        self._told = told
        self._cached: int | None = None
        self._remote = 0
        self._sent = [0] * len(answer.replies)

    def learn(self, emissions: Sequence[tuple[int, object]]) -> list[tuple[int, int, int]]:
        """Spans of new tokens: (choice, start, stop), in the order in which they came."""
        due: dict[int, int] = {}
        for choice, emission in emissions:
            if isinstance(emission, Admitted):
                if self._cached is None:
                    self._cached = emission.hbm_hit + emission.dram_hit
                    self._remote = emission.remote_hit
            elif isinstance(emission, FirstToken):
                due[choice] = due.get(choice, 0) + 1
                self._begun()
            elif isinstance(emission, Tokens):
                due[choice] = due.get(choice, 0) + emission.tokens
        spans = [(choice, self._sent[choice], self._sent[choice] + n) for choice, n in due.items()]
        for choice, _, stop in spans:
            self._sent[choice] = stop
        return spans

    def hits(self) -> Hits:
        assert self._cached is not None, "tokens before admission"
        told, remote = self._told, self._remote
        return Hits(self._prompt_tokens, self._cached, self._block_size, told, remote)
