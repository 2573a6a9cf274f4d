"""A decoder-only transformer of random weights with a KV cache, as plain tensors.

Nothing of its cost depends on what it says: times are those of a trained model of the same shape,
but for a mixture's routing, which is even here. Root-mean-square norms, rotary positions,
grouped-query attention, gated feed-forward layers; linear layers without bias.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm, silu

from loadgen.calibration import attention
from loadgen.calibration.model_shape import ModelShape


@dataclass(slots=True)
class Layer:
    """`gate_up` and `down` have a leading dimension of experts if there is a `router`."""

    norm_in: Tensor
    qkv: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Tensor
    norm_post: Tensor
    router: Tensor | None
    gate_up: Tensor
    down: Tensor


class Decoder:
    """`kv` is [layers, 2, tokens, kv_heads, head_dim], filled with noise: any context is cached.

    `attend` is how new tokens attend; `fuse` may turn a function of tensors into a faster one.
    """

    def __init__(
        self,
        shape: ModelShape,
        tokens: int,
        *,
        dtype: Any,
        device: Any,
        seed: int = 0,
        attend: attention.Attend = attention.lower_right,
        fuse: Callable[[Any], Any] = lambda function: function,
    ) -> None:
        self.shape = shape
        self.dtype, self.device = dtype, torch.device(device)
        self.attend = attend
        self._random = torch.Generator(self.device).manual_seed(seed)
        self._rotate, self._gated, self._combine = map(fuse, (rotate, gated, combine))
        self._experts = torch.arange(shape.experts, device=self.device)
        self.layers = [self._layer() for _ in range(shape.layers)]
        self.embedding = self._noise(shape.vocab, shape.hidden, fan_in=1)
        self.head = self.embedding if shape.tied else self._noise(shape.vocab, shape.hidden)
        self.norm = self._ones(shape.hidden)
        kv = (shape.layers, 2, tokens, shape.kv_heads, shape.head_dim)
        self.kv = self._noise(*kv, fan_in=1)
        self.cos, self.sin = _rotary(shape, tokens, dtype, self.device)

    def weight_bytes(self) -> int:
        """Bytes of all weights, as allocated."""
        tensors = [self.embedding, self.norm]
        if self.head is not self.embedding:
            tensors.append(self.head)
        for layer in self.layers:
            tensors += [x for name in Layer.__slots__ if (x := getattr(layer, name)) is not None]
        return sum(x.numel() * x.element_size() for x in tensors)

    def prefill(self, ids: Tensor, context: int) -> Tensor:
        """Logits [vocab] of the last of `ids` [m], which follow `context` cached tokens."""
        new = ids.shape[0]
        places = slice(context, context + new)
        cos, sin = self.cos[places, None], self.sin[places, None]

        def attend(q: Tensor, k: Tensor, v: Tensor, kv: Tensor) -> Tensor:
            kv[0, places], kv[1, places] = k, v
            return self.attend(q, kv[0, : context + new], kv[1, : context + new])

        # An engine samples from the last token alone, and computes logits for nothing else.
        return linear(self._forward(ids, cos, sin, attend)[-1], self.head)

    def decode(self, ids: Tensor, context: int) -> Tensor:
        """Logits [batch, vocab] for one token each of `ids` [batch], `context` tokens before it.

        Sequence i has its own part of the cache, from i x (context + 1) on.
        """
        batch = ids.shape[0]
        cos, sin = (x[None, context, None] for x in (self.cos, self.sin))

        def attend(q: Tensor, k: Tensor, v: Tensor, kv: Tensor) -> Tensor:
            used = kv[:, : batch * (context + 1)].unflatten(1, (batch, context + 1))
            used[0, :, context], used[1, :, context] = k, v
            return attention.decode(q, used[0], used[1])

        return linear(self._forward(ids, cos, sin, attend), self.head)

    def prefill_in_chunks(self, ids: Tensor, chunk: int) -> None:
        """A whole prompt, as an engine with a budget of `chunk` tokens a step computes it."""
        for start in range(0, ids.shape[0], chunk):
            self.prefill(ids[start : start + chunk], start)

    def _forward(
        self, ids: Tensor, cos: Tensor, sin: Tensor, attend: Callable[..., Tensor]
    ) -> Tensor:
        """Hidden states of all tokens, normed."""
        shape = self.shape
        heads = (shape.heads, shape.kv_heads, shape.kv_heads)
        x = embedding(ids, self.embedding)
        for layer, kv in zip(self.layers, self.kv, strict=True):
            qkv = linear(self._normed(x, layer.norm_in), layer.qkv)
            q, k, v = qkv.unflatten(-1, (-1, shape.head_dim)).split(heads, dim=1)
            if layer.q_norm is not None and layer.k_norm is not None:
                q, k = self._normed(q, layer.q_norm), self._normed(k, layer.k_norm)
            q, k = self._rotate(q, cos, sin), self._rotate(k, cos, sin)
            x = x + linear(attend(q, k, v, kv).flatten(1), layer.out)
            x = x + self._feed_forward(self._normed(x, layer.norm_post), layer)
        return self._normed(x, self.norm)

    def _feed_forward(self, x: Tensor, layer: Layer) -> Tensor:
        if layer.router is None:
            return linear(self._gated(linear(x, layer.gate_up)), layer.down)
        scores = linear(x, layer.router).float().softmax(-1)
        weights, chosen = scores.topk(self.shape.experts_per_token, dim=-1)
        ordered, order = chosen.flatten().sort()
        ends = torch.searchsorted(ordered, self._experts, right=True).to(torch.int32)
        rows = x[order // self.shape.experts_per_token]
        hidden = self._gated(grouped(rows, layer.gate_up, ends))
        found = grouped(hidden, layer.down, ends)
        return self._combine(found, order.argsort(), weights)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(x, (x.shape[-1],), weight, self.shape.norm_eps)

    def _layer(self) -> Layer:
        shape, hidden = self.shape, self.shape.hidden
        attended = shape.heads * shape.head_dim
        qkv = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        experts = (shape.experts,) if shape.experts else ()
        return Layer(
            norm_in=self._ones(hidden),
            qkv=self._noise(qkv, hidden),
            q_norm=self._ones(shape.head_dim) if shape.qk_norm else None,
            k_norm=self._ones(shape.head_dim) if shape.qk_norm else None,
            out=self._noise(hidden, attended),
            norm_post=self._ones(hidden),
            router=self._noise(shape.experts, hidden) if experts else None,
            gate_up=self._noise(*experts, 2 * shape.ffn, hidden),
            down=self._noise(*experts, hidden, shape.ffn),
        )

    def _noise(self, *sizes: int, fan_in: int | None = None) -> Tensor:
        """Scaled so that what a linear layer gives is as large as what it gets."""
        spread = (fan_in or sizes[-1]) ** -0.5
        empty = torch.empty(sizes, dtype=self.dtype, device=self.device)
        return empty.normal_(0.0, spread, generator=self._random)

    def _ones(self, size: int) -> Tensor:
        return torch.ones(size, dtype=self.dtype, device=self.device)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: pairs are the halves of the last dimension."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


def gated(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, dim=-1)
    return silu(gate) * up


def combine(found: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Sum of each token's experts: `found` [tokens x k, hidden] in order of experts, `places` of
    token-major rows in it, `weights` [tokens, k], here made to sum to one."""
    mixed = found[places].unflatten(0, weights.shape)
    return (mixed * (weights / weights.sum(-1, keepdim=True))[..., None].to(mixed.dtype)).sum(1)


def grouped(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """rows [n, in], sorted by expert, times weight [experts, out, in]; expert e ends at ends[e]."""
    if rows.dtype == torch.bfloat16:
        return torch._grouped_mm(rows, weight.transpose(-2, -1), offs=ends)
    bounds: Sequence[int] = [0, *ends.tolist()]
    parts = [
        linear(rows[start:end], expert)
        for expert, start, end in zip(weight, bounds, bounds[1:], strict=False)
    ]
    return torch.cat(parts)


def _rotary(shape: ModelShape, tokens: int, dtype: Any, device: Any) -> tuple[Tensor, Tensor]:
    """cos and sin, [tokens, head_dim / 2] each."""
    powers = torch.arange(0, shape.head_dim, 2, device=device) / shape.head_dim
    angles = torch.outer(torch.arange(tokens, device=device), shape.rope_theta**-powers)
    return angles.cos().to(dtype), angles.sin().to(dtype)
