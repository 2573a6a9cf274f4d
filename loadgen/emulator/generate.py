"""One generation over HTTP: from a prompt's tokens to an answer, streamed or whole."""

import time

import orjson
from aiohttp import web
from xxhash import xxh3_64_hexdigest

from loadgen.chat_template import ChatTemplate
from loadgen.emulator import answers, errors
from loadgen.emulator.answers import Answer, Hits
from loadgen.emulator.block_events import Prompt
from loadgen.emulator.replica import EngineDeadError, Inflight, Replica
from loadgen.emulator.replies import Speaker
from loadgen.emulator.requests import ChatCall, CompletionCall, Sampling
from loadgen.emulator.settings import EmulatorSettings
from loadgen.engine_model import Admitted, ChainHasher, FirstToken, Tokens
from loadgen.tokens import TOKEN_BYTES, Tokeniser, ids_to_bytes, render


class Generator:
    """Serves generations on one replica. Raises ApiError before the first byte; after it an
    engine failure becomes an error event, as vLLM sends it."""

    def __init__(self, settings: EmulatorSettings, tokeniser: Tokeniser, replica: Replica) -> None:
        self._settings = settings
        self._tokeniser = tokeniser
        self._replica = replica
        self._template = ChatTemplate()
        self._hasher = ChainHasher(settings.block_size)
        self._speaker = Speaker(tokeniser, settings.context_tokens, settings.seed)
        self._serial = 0

    def chat_prompt(self, call: ChatCall) -> bytes:
        """Tokens of a conversation, 4 bytes each."""
        pieces = self._template.pieces(
            call.messages, call.tools, generation_prompt=call.generation_prompt
        )
        return render(self._tokeniser, pieces)

    def text_prompt(self, prompt: str | list[int]) -> bytes:
        if isinstance(prompt, str):
            return self._tokeniser.encode(prompt)
        try:
            return ids_to_bytes(prompt)
        except ValueError as error:
            raise errors.bad_value("prompt", f"{error}.", "list") from error

    async def serve(
        self, request: web.Request, call: ChatCall | CompletionCall
    ) -> web.StreamResponse:
        """The answer to a checked call; the engine forgets the request when this returns or is
        cancelled, whichever way."""
        sampling = call.sampling
        chat = call if isinstance(call, ChatCall) else None
        prompt = (
            self.chat_prompt(call) if isinstance(call, ChatCall) else self.text_prompt(call.prompt)
        )
        self._check_lengths(prompt, sampling)
        reply = self._speaker.reply(prompt, sampling, chat)
        answer = Answer(
            id=self._answer_id(request, prompt, chat=chat is not None),
            created=int(time.time()),
            model=self._settings.model,
            chat=chat is not None,
            sampling=sampling,
            prompt=prompt,
            reply=reply,
        )
        chain = self._hasher.chain(prompt + reply.tokens, sampling.cache_salt)
        prompt_tokens = len(prompt) // TOKEN_BYTES
        try:
            session = request.headers.get("x-session-id", "")
            inflight = self._replica.submit(
                chain,
                prompt_tokens,
                reply.count,
                reply.finish_reason,
                Prompt(prompt + reply.tokens, session, sampling.cache_salt),
            )
        except EngineDeadError as error:
            raise errors.engine_dead() from error
        try:
            if sampling.stream:
                return await self._stream(request, answer, inflight)
            return await self._whole(answer, inflight)
        finally:
            self._replica.release(inflight)

    def check_model(self, name: str | None) -> None:
        if name is not None and name != self._settings.model:
            raise errors.unknown_model(name, self._settings.model)

    async def _whole(self, answer: Answer, inflight: Inflight) -> web.Response:
        hits: Hits | None = None
        try:
            while not inflight.finished:
                for emission in await inflight.take():
                    if isinstance(emission, Admitted) and hits is None:
                        hits = self._hits(answer, emission)
        except EngineDeadError as error:
            raise errors.engine_dead() from error
        assert hits is not None, "finished without being admitted"
        return web.Response(
            body=orjson.dumps(answers.body(answer, hits)), content_type="application/json"
        )

    async def _stream(
        self, request: web.Request, answer: Answer, inflight: Inflight
    ) -> web.StreamResponse:
        # Like vLLM the headers leave before the first token, so that a failure after this point
        # is an event in a stream of status 200.
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        hits: Hits | None = None
        sent = 0
        try:
            while not inflight.finished:
                due = sent
                for emission in await inflight.take():
                    if isinstance(emission, Admitted):
                        hits = hits or self._hits(answer, emission)
                    elif isinstance(emission, FirstToken):
                        due += 1
                    elif isinstance(emission, Tokens):
                        due += emission.tokens
                if due > sent:
                    assert hits is not None, "a token before admission"
                    data = _chunks(answer, hits, sent, due)
                    if data:
                        await response.write(data)
                    sent = due
        except EngineDeadError:
            await response.write(answers.sse(errors.engine_dead().body()) + answers.DONE)
        await response.write_eof()
        return response

    def _hits(self, answer: Answer, admitted: Admitted) -> Hits:
        return Hits(
            prompt_tokens=len(answer.prompt) // TOKEN_BYTES,
            cached_tokens=admitted.hbm_hit + admitted.dram_hit,
            block_size=self._settings.block_size,
        )

    def _check_lengths(self, prompt: bytes, sampling: Sampling) -> None:
        context = self._settings.context_tokens
        wanted = sampling.max_tokens or 0
        if wanted > context:
            raise errors.bad_value(
                "max_tokens",
                f"max_tokens={wanted} cannot be greater than max_model_len={context}. "
                "Please request fewer output tokens.",
                wanted,
            )
        prompt_tokens = len(prompt) // TOKEN_BYTES
        if prompt_tokens >= context:
            raise errors.prompt_too_long(context)
        if prompt_tokens + wanted > context:
            raise errors.total_too_long(context, prompt_tokens, wanted)

    def _answer_id(self, request: web.Request, prompt: bytes, *, chat: bool) -> str:
        self._serial += 1
        given = request.headers.get("x-request-id")
        suffix = given or xxh3_64_hexdigest(prompt, self._serial)
        return f"{'chatcmpl' if chat else 'cmpl'}-{suffix}"


def _chunks(answer: Answer, hits: Hits, start: int, stop: int) -> bytes:
    """Stream bytes for output tokens [start, stop), with what goes before and after them."""
    parts: list[bytes] = []
    if start == 0 and answer.chat:
        parts.append(answers.role_chunk(answer, hits))
        if answer.reply.tool_call is not None:
            parts.append(answers.tool_head_chunk(answer, answer.reply.tool_call))
    parts.append(answers.token_chunk(answer, hits, start, stop))
    if stop == answer.reply.count:
        if answer.sampling.include_usage:
            parts.append(answers.usage_chunk(answer, hits))
        parts.append(answers.DONE)
    return b"".join(parts)
