"""Asking a replica for the token ids of a prompt, off the request's path."""

import ssl
from array import array
from collections.abc import Mapping

import aiohttp

from kvproxy.core.replica import Replica
from kvproxy.core.tokenise import NoPageError, Question, read_tokens

_ANSWER_BYTES_MAX = 16 * 2**20
_NO_PAGE = frozenset({404, 405, 501})


class Tokenise:
    """start() before, close() after."""

    def __init__(
        self, timeout_s: float, api_keys: Mapping[str, str], tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._api_keys = api_keys
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._tls or True)
        self._session = aiohttp.ClientSession(timeout=self._timeout, connector=connector)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def tokens(self, replica: Replica, question: Question) -> "array[int]":
        """Raises aiohttp.ClientError, TimeoutError, or ValueError for what is no answer: a
        NoPageError where there will be none."""
        assert self._session is not None
        headers = {"content-type": "application/json"}
        if replica.id in self._api_keys:
            headers["authorization"] = f"Bearer {self._api_keys[replica.id]}"
        url = replica.url + question.path
        async with self._session.post(url, data=question.body, headers=headers) as response:
            if response.status in _NO_PAGE:
                raise NoPageError(f"{question.path} answered {response.status}")
            if response.status in (408, 429) or response.status >= 500:
                # It may pass.
                response.raise_for_status()
            if response.status != 200:
                raise ValueError(f"{question.path} answered {response.status}")
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > _ANSWER_BYTES_MAX:
                    raise ValueError(f"{question.path} answered over {_ANSWER_BYTES_MAX} bytes")
            return read_tokens(bytes(answer))
