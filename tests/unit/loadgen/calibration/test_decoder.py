import pytest

torch = pytest.importorskip("torch", reason="torch is optional: pip install kvproxy[calibrate]")

from loadgen.calibration.decoder import Decoder, combine, grouped  # noqa: E402
from loadgen.calibration.model_shape import ModelShape  # noqa: E402
from tests.support.calibrations import DENSE, EXPERTS  # noqa: E402


@pytest.mark.parametrize("shape", [DENSE, EXPERTS], ids=lambda shape: shape.model_type)
def test_chunks_and_decoding_give_what_one_step_gives(shape: ModelShape) -> None:
    decoder = Decoder(shape, 128, dtype=torch.float32, device="cpu")
    ids = torch.arange(50) % shape.vocab
    whole = decoder.prefill(ids, 0)
    decoder.kv.zero_()
    decoder.prefill(ids[:30], 0)
    torch.testing.assert_close(decoder.prefill(ids[30:], 30), whole, rtol=1e-4, atol=1e-4)
    decoder.kv[:, :, 49:].zero_()
    torch.testing.assert_close(decoder.decode(ids[49:], 49)[0], whole, rtol=1e-4, atol=1e-4)
    decoder.prefill_in_chunks(ids, 7)
    torch.testing.assert_close(decoder.decode(ids[49:], 49)[0], whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [DENSE, EXPERTS], ids=lambda shape: shape.model_type)
def test_sequences_of_a_batch_have_contexts_of_their_own(shape: ModelShape) -> None:
    decoder = Decoder(shape, 64, dtype=torch.float32, device="cpu")
    both = decoder.decode(torch.tensor([3, 3]), 20)
    assert not torch.allclose(both[0], both[1])
    decoder.kv[:, :, 21:42] = decoder.kv[:, :, :21]
    both = decoder.decode(torch.tensor([3, 3]), 20)
    torch.testing.assert_close(both[0], both[1])


@pytest.mark.parametrize("shape", [DENSE, EXPERTS], ids=lambda shape: shape.model_type)
def test_as_many_weights_as_the_shape_says(shape: ModelShape) -> None:
    decoder = Decoder(shape, 1, dtype=torch.float32, device="cpu")
    norms = 2 * shape.layers * (shape.hidden + shape.qk_norm * shape.head_dim) + shape.hidden
    assert decoder.weight_bytes() == 4 * (shape.parameters + norms)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_row_meets_its_own_expert(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    rows, weight = torch.randn(10, 16).to(dtype), torch.randn(4, 8, 16).to(dtype)
    chosen = [0, 0, 0, 2, 2, 2, 2, 2, 3, 3]
    ends = torch.tensor([3, 3, 8, 10], dtype=torch.int32)
    expected = torch.stack([weight[e] @ row for e, row in zip(chosen, rows, strict=True)])
    torch.testing.assert_close(grouped(rows, weight, ends), expected, rtol=0.02, atol=0.02)


def test_experts_are_weighed_per_token() -> None:
    found = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])  # in the order of experts
    places = torch.tensor([2, 0, 3, 1])  # token 0: rows 2 and 0; token 1: rows 3 and 1
    weights = torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    assert combine(found, places, weights).flatten().tolist() == [50.5, 752.5]
