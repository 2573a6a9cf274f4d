"""Fetching bounded pages from replicas and from LMCache, with a replica's key where it has one."""

from collections.abc import Mapping
from typing import NamedTuple

import aiohttp

PAGE_BYTES_MAX = 8 * 2**20


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return self.status == 200


class Asker:
    """Raises aiohttp.ClientError or TimeoutError where nobody answers, ValueError for a page that
    is too large. `keys`: bearer tokens by base URL."""

    def __init__(self, session: aiohttp.ClientSession, keys: Mapping[str, str]) -> None:
        self._session = session
        self._keys = keys

    async def get(self, base: str, path: str) -> Answer:
        return await self._ask("GET", base, path, None)

    async def post(self, base: str, path: str, body: bytes, **headers: str) -> Answer:
        return await self._ask("POST", base, path, body, **headers)

    async def _ask(
        self, method: str, base: str, path: str, body: bytes | None, **headers: str
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if base in self._keys:
            sent["authorization"] = f"Bearer {self._keys[base]}"
        if body is not None:
            sent["content-type"] = "application/json"
        url = base + path
        async with self._session.request(method, url, data=body, headers=sent) as response:
            page = bytearray()
            async for chunk in response.content.iter_any():
                page += chunk
                if len(page) > PAGE_BYTES_MAX:
                    raise ValueError(f"{path} is larger than {PAGE_BYTES_MAX} bytes")
            return Answer(response.status, bytes(page), dict(response.headers))


def why(error: BaseException, url: str) -> str:
    """One line that says what went wrong in asking `url`."""
    text = str(error) or type(error).__name__
    return f"{url}: {text}"
