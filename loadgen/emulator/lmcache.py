"""An LMCache coordinator that knows the DRAM tiers of emulated replicas, and the controller before
it, at one address. Every replica has a server of its own, `node-0` and so on."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from loadgen.emulator.planted import Planted
from loadgen.engine.dram_tier import CHUNK_TOKENS, DramTier
from loadgen.engine.hashing import ChainHasher
from loadgen.tokens import ids_to_bytes

CHUNK_BYTES = CHUNK_TOKENS * 512
_HASH_BYTES = 8
_ODD_CHUNK = 100
# The DRAM tiers of the replicas at this moment, None for one that is down.
Tiers = Callable[[], list[DramTier | None]]


class Coordinator:
    """Answers what LMCache 0.5.6 does; while `silent` it refuses everything. `lookups` counts the
    questions."""

    def __init__(
        self,
        tiers: Tiers,
        block_size: int,
        model: str,
        host: str,
        planted: frozenset[Planted] = frozenset(),
    ) -> None:
        self._tiers = tiers
        self._blocks_per_chunk = CHUNK_TOKENS // block_size
        self._hasher = ChainHasher(block_size)
        self._model = model
        self._host = host
        self._runner: web.AppRunner | None = None
        self._planted = planted
        self.silent = Planted.LMCACHE_SILENT in planted
        self.lookups = 0
        self.url = ""

    async def start(self, port: int = 0) -> None:
        app = web.Application(middlewares=[self._refuse], client_max_size=64 * 2**20)
        app.router.add_post("/directory/lookup", self._look_up)
        app.router.add_post("/lookup", self._controller)
        app.router.add_get("/instances", self._instances)
        app.router.add_get("/instances/usage", self._usage)
        app.router.add_get("/config", self._config)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, port).start()
        self.url = f"http://{self._host}:{self._port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def _port(self) -> int:
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    def held(self, chunks: bytes) -> dict[str, int]:
        """Leading chunks by server, of those that hold any."""
        if Planted.LMCACHE_FORGETS in self._planted:
            return {}
        found = {name: tier.held(chunks) for name, tier in self._servers().items()}
        return {name: count for name, count in found.items() if count}

    def _servers(self) -> dict[str, DramTier]:
        tiers = self._tiers()
        return {f"node-{n}": tier for n, tier in enumerate(tiers) if tier is not None}

    @web.middleware
    async def _refuse(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.silent:
            raise web.HTTPServiceUnavailable
        # A tick, as over a network: nobody may count on an answer within the same step.
        await asyncio.sleep(0)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _look_up(self, request: web.Request) -> web.Response:
        self.lookups += 1
        asked = msgspec.json.decode(await request.read())
        salt = asked.get("cache_salt", "")
        if asked.get("keys"):
            chunks = b"".join(bytes.fromhex(key["chunk_hash_hex"]) for key in asked["keys"])
            named = all(key["model_name"] == self._model for key in asked["keys"])
        else:
            chunks = self._chunks(asked["token_ids"], salt)
            named = asked["model_name"] == self._model
        held = self.held(chunks) if named else {}
        results = []
        for number, at in enumerate(range(0, len(chunks), _HASH_BYTES)):
            key = {"chunk_hash_hex": chunks[at : at + _HASH_BYTES].hex(), "kv_rank": 1,
                   "model_name": self._model, "object_group_id": 0,
                   "cache_salt": salt}  # fmt: skip
            places = [_place(name) for name, count in held.items() if number < count]
            results.append({"key": key, "placements": places, "token_ids": [], "access_count": 0})
        return web.json_response({"chunks": len(results), "results": results})

    async def _controller(self, request: web.Request) -> web.Response:
        """Names the last holder it met of each chunk, so one server can hide another."""
        asked = msgspec.json.decode(await request.read())
        held = self.held(self._chunks(asked["tokens"], ""))
        last = max(held, key=lambda name: held[name], default=None)
        layout = {last: ["LocalCPUBackend", held[last] * CHUNK_TOKENS]} if last else {}
        return web.json_response({"event_id": "Lookup", "layout_info": layout})

    async def _instances(self, request: web.Request) -> web.Response:
        servers = [
            {"instance_id": name, "ip": self._host, "http_port": self._port}
            for name in self._servers()
        ]
        if Planted.LMCACHE_LOST in self._planted:
            servers.pop()
        return web.json_response({"instances": servers})

    async def _usage(self, request: web.Request) -> web.Response:
        servers = []
        for name, tier in self._servers().items():
            module = {"tier": "l1", "backend": "dram", "shared": False, "used_bytes": 0,
                      "capacity_bytes": _bytes(tier)}  # fmt: skip
            servers.append({"instance_id": name, "modules": [module]})
        return web.json_response({"instances": servers, "shared_modules": []})

    async def _config(self, request: web.Request) -> web.Response:
        size = max(map(_bytes, self._servers().values()), default=0)
        manager = {"l1_manager_config": {"memory_config": {"size_in_bytes": size}}}
        cut = _ODD_CHUNK if Planted.LMCACHE_CHUNKS in self._planted else CHUNK_TOKENS
        config: dict[str, object] = {"mp": {"chunk_size": cut}, "storage_manager": manager}
        if Planted.LMCACHE_SAVE_DECODE in self._planted:
            config["save_decode_cache"] = True
        return web.json_response(config)

    def _chunks(self, token_ids: list[int], salt: str) -> bytes:
        """The tiers' own names of a prompt's whole chunks."""
        words = memoryview(self._hasher.chain(ids_to_bytes(token_ids), salt)).cast("Q")
        return words[self._blocks_per_chunk - 1 :: self._blocks_per_chunk].tobytes()


def _bytes(tier: DramTier) -> int:
    return tier.capacity_tokens // CHUNK_TOKENS * CHUNK_BYTES


def _place(server: str) -> dict[str, object]:
    return {
        "instance_id": server,
        "incarnation": 1,
        "tier": "l1",
        "backend": "dram",
        "size_bytes": CHUNK_BYTES,
        "shared": False,
    }
