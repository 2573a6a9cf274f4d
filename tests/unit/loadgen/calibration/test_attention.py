import pytest

torch = pytest.importorskip("torch", reason="torch is optional: pip install kvproxy[calibrate]")

from loadgen.calibration import attention  # noqa: E402

SIZES = [(5, 0), (1, 40), (7, 33), (64, 1)]


def tensors(new: int, context: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(new + context)
    q = torch.randn(new, 6, 16, generator=make)
    k, v = (torch.randn(context + new, 2, 16, generator=make) for _ in range(2))
    return q, k, v


def by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Token by token, head by head."""
    out = torch.empty_like(q)
    before = len(k) - len(q)
    for at in range(len(q)):
        for head in range(q.shape[1]):
            seen = slice(0, before + at + 1)
            scores = k[seen, head // 3] @ q[at, head] / 4.0
            out[at, head] = scores.softmax(0) @ v[seen, head // 3]
    return out


def half(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """A kernel that knows a causal mask for square problems only, as a GPU's."""
    assert not causal or q.shape[2] == k.shape[2]
    keys, values = (x.repeat_interleave(3, dim=1) for x in (k, v))
    scores = q @ keys.transpose(2, 3) / 4.0
    if causal:
        hidden = torch.ones(scores.shape[2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    return scores.softmax(-1) @ values, scores.logsumexp(-1)


@pytest.mark.parametrize(("new", "context"), SIZES)
def test_all_ways_agree(new: int, context: int) -> None:
    q, k, v = tensors(new, context)
    expected = by_hand(q, k, v)
    for found in (
        attention.naive(q, k, v),
        attention.lower_right(q, k, v),
        attention.joined(half, q, k, v),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_decoding_sees_the_whole_context() -> None:
    q, k, v = tensors(1, 20)
    found = attention.decode(q, k[None], v[None])
    torch.testing.assert_close(found, by_hand(q, k, v), rtol=1e-4, atol=1e-5)


def test_a_wrong_kernel_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_the_left(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention.naive(q, k[: len(q)], v[: len(q)])

    def nothing(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.full_like(q, float("nan"))

    wrong = {"left": from_the_left, "nan": nothing}
    monkeypatch.setattr(attention, "CANDIDATES", wrong | {"right": attention.naive})
    name, notes = attention.choose((6, 2, 16), torch.float32, "cpu", lambda work: 1.0)
    assert name == "right"
    assert set(notes) == {"left", "nan", "right"}
    monkeypatch.setattr(attention, "CANDIDATES", wrong)
    with pytest.raises(RuntimeError, match="no attention kernel"):
        attention.choose((6, 2, 16), torch.float32, "cpu", lambda work: 1.0)
