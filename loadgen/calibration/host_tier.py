"""KV blocks in pinned host memory, and the ways engines bring them into a paged cache.

`chunk`: a block lies in one piece for all layers, is copied at once and spread over the layers'
pages by the device (LMCache). `page`: every layer's K and V of a block is copied by itself (vLLM's
own offloading); all of these in one call of the driver where it offers that.
"""

import ctypes
import random
from typing import Any, Literal

import torch

Layout = Literal["chunk", "page"]
LAYOUTS: tuple[Layout, ...] = ("chunk", "page")
_ELEMENT_BYTES = 8  # moved as 64-bit words, whatever the cache's dtype


class HostTier:
    """`tokens` of KV on the host and room for as many in scattered pages of `block` tokens.

    `row_bytes` is one token's K, or V, of one layer.
    """

    def __init__(
        self, layers: int, row_bytes: int, *, tokens: int, block: int, device: Any, seed: int = 0
    ) -> None:
        assert tokens % block == 0 and row_bytes % _ELEMENT_BYTES == 0
        self.block, self.tokens = block, tokens
        self.token_bytes = 2 * layers * row_bytes
        self.device = torch.device(device)
        on_gpu = self.device.type == "cuda"
        page = block * row_bytes // _ELEMENT_BYTES
        blocks = tokens // block
        # [blocks, layers, 2, page] on the host, [layers, 2, blocks, page] as a cache has it.
        self.host = torch.empty(blocks, layers, 2, page, dtype=torch.int64, pin_memory=on_gpu)
        self.pages = torch.empty(layers, 2, blocks, page, dtype=torch.int64, device=device)
        # Drawn on the device, which takes seconds less than the host would.
        self.host.copy_(self.pages.random_(0, 2**40).view(self.host.shape))
        self.pages.zero_()
        self._staging = torch.empty(layers, 2, page, dtype=torch.int64, device=device)
        self._slots = random.Random(seed).sample(range(blocks), blocks)
        self._batch = _driver_batch() if on_gpu else None
        self._lists: dict[int, tuple[Any, Any, Any]] = {}

    @property
    def page_copies(self) -> str:
        """How the copies of `page` are handed to the driver."""
        return self._batch.name if self._batch is not None else "one call each"

    def load(self, tokens: int, layout: Layout) -> None:
        """Bring the first `tokens` in, on the current stream; a GPU is not waited for."""
        assert 0 < tokens <= self.tokens and tokens % self.block == 0
        blocks = tokens // self.block
        if layout == "chunk":
            for block, slot in enumerate(self._slots[:blocks]):
                self._staging.copy_(self.host[block], non_blocking=True)
                self.pages[:, :, slot].copy_(self._staging)
        elif self._batch is not None:
            self._batch(*self._addresses(blocks))
        else:
            self._load_pages(blocks)

    def store(self, tokens: int) -> None:
        """Write the first `tokens` back, in chunks."""
        for block, slot in enumerate(self._slots[: tokens // self.block]):
            self._staging.copy_(self.pages[:, :, slot])
            self.host[block].copy_(self._staging, non_blocking=True)

    def loaded(self, tokens: int) -> bool:
        """Whether the pages hold the first `tokens` of the host; waits for the device."""
        blocks = tokens // self.block
        slots = torch.tensor(self._slots[:blocks], device=self.device)
        found = self.pages[:, :, slots].permute(2, 0, 1, 3).cpu()
        return bool(torch.equal(found, self.host[:blocks]))

    def _load_pages(self, blocks: int) -> None:
        for block, slot in enumerate(self._slots[:blocks]):
            for layer in range(self.pages.shape[0]):
                for part in (0, 1):
                    page = self.pages[layer, part, slot]
                    page.copy_(self.host[block, layer, part], non_blocking=True)

    def _addresses(self, blocks: int) -> tuple[Any, Any, Any]:
        """Destinations, sources and sizes as arrays of words, made once for each length."""
        if blocks not in self._lists:
            layers, _, count, page = self.pages.shape
            page_bytes = page * _ELEMENT_BYTES
            to, source = self.pages.data_ptr(), self.host.data_ptr()
            slots = self._slots[:blocks]
            parts = range(2 * layers)
            words = ctypes.c_size_t * (blocks * 2 * layers)
            self._lists[blocks] = (
                words(
                    *(to + (part * count + slot) * page_bytes for slot in slots for part in parts)
                ),
                words(*(source + piece * page_bytes for piece in range(blocks * 2 * layers))),
                words(*[page_bytes] * (blocks * 2 * layers)),
            )
        return self._lists[blocks]


class _Attributes(ctypes.Structure):
    """CUmemcpyAttributes: sources are read in stream order; hints and flags are all zero, and
    there is room for what later drivers may add."""

    _fields_ = (("order", ctypes.c_int), ("zeros", ctypes.c_int * 31))


class _Batch:
    """The driver's batched copy; version 2 of the call has no index of failures."""

    def __init__(self, call: Any, name: str, failed: bool) -> None:
        self.name, self._call, self._failed = name, call, failed
        self._call.restype = ctypes.c_int
        self._attributes = _Attributes(order=1)
        self._first = ctypes.c_size_t(0)

    def __call__(self, to: Any, source: Any, sizes: Any) -> None:
        index = ctypes.c_size_t(0)
        status = self._call(
            to, source, sizes, ctypes.c_size_t(len(sizes)),
            ctypes.byref(self._attributes), ctypes.byref(self._first), ctypes.c_size_t(1),
            *([ctypes.byref(index)] if self._failed else []),
            ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
        )  # fmt: skip
        if status:
            raise RuntimeError(f"{self.name} failed with CUDA error {status}")


def _driver_batch() -> _Batch | None:
    """None where the driver has no such call: it came with CUDA 12.8."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    for name, failed in (("cuMemcpyBatchAsync_v2", False), ("cuMemcpyBatchAsync", True)):
        if hasattr(driver, name):
            return _Batch(getattr(driver, name), name, failed)
    return None
