"""Causal attention of new tokens over a context that is already cached, as an engine prefills.

The fastest kernels of a device differ, and most know a causal mask for square problems only. Such
a kernel is run twice, over the context without a mask and over the new tokens with one, and the
halves are joined by their log-sum-exp, as engines do with a shared prefix.
"""

from collections.abc import Callable
from functools import partial
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

# q [m, heads, dim], k and v [L + m, kv_heads, dim] -> [m, heads, dim]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
# q [1, heads, m, dim], k and v [1, kv_heads, n, dim], whether causal -> output, log-sum-exp
_Half = Callable[[Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor]]
_TOLERANCE = 0.02


def naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """By the formula, in float32: what the others are held against. Takes heads x m x n scores."""
    new, total = q.shape[0], k.shape[0]
    group = q.shape[1] // k.shape[1]
    keys, values = (x.float().repeat_interleave(group, dim=1) for x in (k, v))
    scores = torch.einsum("mhd,nhd->hmn", q.float(), keys) / q.shape[2] ** 0.5
    visible = torch.ones(new, total, dtype=torch.bool, device=q.device).tril(total - new)
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return torch.einsum("hmn,nhd->mhd", weights, values).to(q.dtype)


def lower_right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's own choice of kernel for a mask aligned to the end of the context."""
    mask = causal_lower_right(q.shape[0], k.shape[0])
    heads = (x.transpose(0, 1)[None] for x in (q, k, v))
    return scaled_dot_product_attention(*heads, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1)


def joined(half: _Half, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Context and new tokens apart, then joined."""
    new, total = q.shape[0], k.shape[0]
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    own, own_lse = half(q, k[:, :, total - new :], v[:, :, total - new :], True)
    if total > new:
        before, before_lse = half(q, k[:, :, : total - new], v[:, :, : total - new], False)
        share = torch.sigmoid(own_lse - before_lse)[..., None]
        own = torch.lerp(before.float(), own.float(), share).to(q.dtype)
    return own[0].transpose(0, 1)


def flash_half(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    out = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)
    return out[0], out[1]


def cudnn_half(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    out = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, causal)
    return out[0], out[1].reshape(q.shape[:3])


def decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One token each: q [batch, heads, dim], k and v [batch, n, kv_heads, dim]."""
    keys, values = k.transpose(1, 2), v.transpose(1, 2)
    return scaled_dot_product_attention(q[:, :, None], keys, values, enable_gqa=True)[:, :, 0]


CANDIDATES: dict[str, Attend] = {
    "torch": lower_right,
    "flash-joined": partial(joined, flash_half),
    "cudnn-joined": partial(joined, cudnn_half),
}


def wrong_by(attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> float:
    """Relative error against `naive`, infinite for NaN."""
    expected = naive(q, k, v).float()
    error = float((attend(q, k, v).float() - expected).norm() / expected.norm())
    return error if isfinite(error) else inf


def choose(
    sizes: tuple[int, int, int],
    dtype: Any,
    device: Any,
    time_s: Callable[[Callable[[], Any]], float],
) -> tuple[str, dict[str, str]]:
    """Name of the fastest candidate that is right, and what became of each.

    `sizes` are heads, kv_heads and dim. `time_s` times a call.
    """
    heads, kv_heads, dim = sizes

    def tensors(new: int, context: int) -> tuple[Tensor, Tensor, Tensor]:
        make = partial(torch.randn, dtype=dtype, device=device)
        kv = (context + new, kv_heads, dim)
        return make(new, heads, dim), make(*kv), make(*kv)

    small = [tensors(64, 0), tensors(48, 200), tensors(1, 77)]
    large = tensors(2048, 14_336) if torch.device(device).type == "cuda" else small[1]
    seconds, notes = {}, {}
    for name, attend in CANDIDATES.items():
        try:
            error = max(wrong_by(attend, *case) for case in small)
            seconds[name] = time_s(partial(attend, *large)) if error < _TOLERANCE else inf
            notes[name] = f"{1e3 * seconds[name]:.3f} ms, error {error:.1e}"
        except (RuntimeError, NotImplementedError) as refusal:
            notes[name] = f"not on this device: {str(refusal).splitlines()[0][:120]}"
    right = {name: taken_s for name, taken_s in seconds.items() if taken_s < inf}
    if not right:
        raise RuntimeError(f"no attention kernel is right on this device: {notes}")
    return min(right, key=lambda name: right[name]), notes
