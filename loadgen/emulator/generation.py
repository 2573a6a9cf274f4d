"""Routes that read prompts: generation in every dialect, counting, rendering, tokenising."""

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from aiohttp import web
from xxhash import xxh3_64_hexdigest

from loadgen.emulator import errors, requests
from loadgen.emulator.answers import Dialect
from loadgen.emulator.chat_answers import ChatWriter
from loadgen.emulator.completion_answers import CompletionWriter
from loadgen.emulator.errors import ApiError
from loadgen.emulator.fields import field, read_object
from loadgen.emulator.generate import Generator
from loadgen.emulator.messages_answers import MessagesWriter
from loadgen.emulator.messages_requests import messages_call
from loadgen.emulator.replica import Replica
from loadgen.emulator.requests import ChatCall, CompletionCall
from loadgen.emulator.responses_answers import ResponseStore, ResponsesWriter
from loadgen.emulator.responses_requests import ResponsesCall, responses_call
from loadgen.emulator.settings import EmulatorSettings
from loadgen.emulator.transfers import Transfers
from loadgen.tokens import TOKEN_BYTES, Tokeniser, ids_of, ids_to_bytes

_CHAT = Dialect("chatcmpl-", ChatWriter)
_MESSAGES = Dialect("chatcmpl-", MessagesWriter)  # it goes the way of a chat


class GenerationRoutes:
    """Handlers of one replica."""

    def __init__(
        self,
        settings: EmulatorSettings,
        tokeniser: Tokeniser,
        replica: Replica,
        transfers: Transfers,
    ) -> None:
        self._settings = settings
        self._tokeniser = tokeniser
        self._replica = replica
        self._transfers = transfers
        self._generator = Generator(settings, tokeniser, replica, transfers)
        self._store = ResponseStore(settings.responses_stored)

    def add_to(self, app: web.Application) -> None:
        post, messages = app.router.add_post, "/v1/messages"
        post("/v1/chat/completions", self._chat)
        post("/v1/completions", self._completion)
        post(messages, _anthropic(self._messages))
        post(f"{messages}/count_tokens", _anthropic(self._count_tokens))
        post("/v1/responses", self._responses)
        app.router.add_get("/v1/responses/{id}", self._retrieve, allow_head=False)
        post("/v1/responses/{id}/cancel", self._cancel)
        post("/v1/chat/completions/render", self._render_chat)
        post("/v1/completions/render", self._render_completion)
        post(f"{messages}/render", self._render_messages)
        post("/v1/responses/render", self._render_responses)
        post("/tokenize", self._tokenize)
        post("/detokenize", self._detokenize)
        if self._settings.kv_connector == "mooncake":
            app.router.add_get("/query", self._bootstrap, allow_head=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        return await self._generator.serve(request, requests.chat_call(fields), _CHAT, fields)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        call = requests.completion_call(fields)
        dialect = Dialect("cmpl-", partial(CompletionWriter, tokeniser=self._tokeniser))
        return await self._generator.serve(request, call, dialect, fields)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        return await self._generator.serve(request, messages_call(fields), _MESSAGES, fields)

    async def _count_tokens(self, request: web.Request) -> web.Response:
        call = messages_call(await read(request), counts=True)
        self._generator.check_model(call.sampling.model)
        count = len(self._generator.chat_prompt(call)) // TOKEN_BYTES
        management = {"original_input_tokens": count}
        return json_response({"input_tokens": count, "context_management": management})

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        call = self._responses_call(fields)
        writer = partial(
            ResponsesWriter,
            call=call,
            store=self._store,
            context_tokens=self._settings.context_tokens,
        )
        dialect = Dialect("resp_", writer, named_by_client=False)
        return await self._generator.serve(request, call.chat, dialect, fields)

    def _responses_call(self, fields: dict[str, Any]) -> ResponsesCall:
        self._generator.check_model(field(fields, "model", str, None))
        previous = field(fields, "previous_response_id", str, None)
        if previous is None:
            return responses_call(fields)
        stored = self._store.get(previous)
        if stored is None:
            raise errors.unknown_response(previous)
        return responses_call(fields, stored.conversation())

    async def _retrieve(self, request: web.Request) -> web.Response:
        stored = self._store.get(request.match_info["id"])
        if stored is None:
            raise errors.unknown_response(request.match_info["id"])
        return json_response(stored.response)

    async def _cancel(self, request: web.Request) -> web.Response:
        if self._store.get(request.match_info["id"]) is None:
            raise errors.unknown_response(request.match_info["id"])
        text = "Cannot cancel a synchronous response."
        raise ApiError(text, "invalid_request_error", "response_id", 400)

    async def _render_chat(self, request: web.Request) -> web.Response:
        return self._rendered(requests.chat_call(await self._to_render(request)), "chatcmpl-")

    async def _render_completion(self, request: web.Request) -> web.Response:
        call = requests.completion_call(await self._to_render(request))
        return json_response(
            [self._rendering(call, "cmpl-", each) for each in range(len(call.prompts))]
        )

    async def _render_messages(self, request: web.Request) -> web.Response:
        return self._rendered(messages_call(await self._to_render(request)), "chatcmpl-")

    async def _render_responses(self, request: web.Request) -> web.Response:
        call = self._responses_call(await self._to_render(request))
        return self._rendered(call.chat, "resp_")

    def _rendered(self, call: ChatCall, prefix: str) -> web.Response:
        return json_response(self._rendering(call, prefix))

    def _rendering(
        self, call: ChatCall | CompletionCall, prefix: str, number: int = 0
    ) -> dict[str, Any]:
        self._generator.check_model(call.sampling.model)
        prompt = self._generator.prompts(call)[number]
        return rendering(prompt, call.sampling, prefix, self._settings)

    async def _to_render(self, request: web.Request) -> dict[str, Any]:
        if not self._settings.scale_out:
            raise errors.scale_out_disabled()
        return await read(request)

    async def _tokenize(self, request: web.Request) -> web.Response:
        fields = await read(request)
        if "messages" in fields:
            tokens = self._generator.chat_prompt(requests.chat_call(fields))
        elif "prompt" in fields:
            tokens = self._generator.text_prompt(requests.prompts_of(fields)[0])
        else:
            raise errors.missing("body.prompt", fields)
        strings: list[str] | None = None
        if fields.get("return_token_strs"):
            cuts = range(0, len(tokens), TOKEN_BYTES)
            strings = [self._tokeniser.decode(tokens[at : at + TOKEN_BYTES]) for at in cuts]
        return json_response(
            {
                "count": len(tokens) // TOKEN_BYTES,
                "max_model_len": self._settings.context_tokens,
                "tokens": ids_of(tokens),
                "token_strs": strings,
            }
        )

    async def _bootstrap(self, request: web.Request) -> web.Response:
        """Mooncake's bootstrap server: engines by data-parallel rank."""
        return json_response({"0": {"engine_id": self._transfers.here().engine_id}})

    async def _detokenize(self, request: web.Request) -> web.Response:
        fields = await read(request)
        ids = fields.get("tokens")
        if not isinstance(ids, list):
            raise errors.missing("body.tokens", fields)
        for index, each in enumerate(ids):
            if type(each) is int and each < 0:
                what = ("greater_than_equal", "Input should be greater than or equal to 0")
                at = f"body.tokens.{index}"
                raise errors.validation_error(what, at, str(each), ctx={"ge": 0})
        try:
            tokens = ids_to_bytes(ids)
        except ValueError as error:
            raise errors.refused(f"{error}.", "tokens") from error
        return json_response({"prompt": self._tokeniser.decode(tokens)})

    async def _fields(self, request: web.Request) -> dict[str, Any]:
        """Body of a generation, unless a fault was asked for."""
        faults = self._replica.faults
        if faults.fail_next > 0:
            faults.fail_next -= 1
            text = "Injected failure."
            raise ApiError(text, "InternalServerError", None, faults.fail_status)
        return await read(request)


async def read(request: web.Request) -> dict[str, Any]:
    return read_object(await request.read(), request.content_type)


def json_response(payload: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(payload), status=status, content_type="application/json")


def _anthropic(handler: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
    """Refusals in the words of that API."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except ApiError as error:
            return json_response(error.anthropic_body(), error.code)
        return response

    return handle


def rendering(
    prompt: bytes, sampling: requests.Sampling, prefix: str, settings: EmulatorSettings
) -> dict[str, Any]:
    """What a request becomes before it reaches the engine, as another server may be given it."""
    room = settings.context_tokens - len(prompt) // TOKEN_BYTES
    return {
        "request_id": prefix + xxh3_64_hexdigest(prompt),
        "token_ids": ids_of(prompt),
        "token_offsets": None,
        "features": None,
        "content_parts": None,
        "sampling_params": {
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.0,
            "temperature": sampling.temperature,
            "stop": [],
            "stop_token_ids": [],
            "max_tokens": min(sampling.max_tokens or room, room),
            "output_kind": 2,
            "skip_clone": True,
            **({"extra_args": {}} if prefix == "resp_" else {}),
            "bad_words": [],
            "skip_reading_prefix_cache": False,
        },
        "model": settings.model,
        "reasoning_ended": None,
        "reasoning_parser_kwargs": None,
        "return_token_ids": None,
        "output_mode": "tokens",
        "stream": sampling.stream,
        "stream_options": None,
        "cache_salt": sampling.cache_salt or None,
        "priority": 0,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
    }
