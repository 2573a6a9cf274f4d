import pytest

torch = pytest.importorskip("torch", reason="torch is optional: pip install kvproxy[calibrate]")

from loadgen.calibration import measure  # noqa: E402
from loadgen.calibration.decoder import Decoder  # noqa: E402
from loadgen.calibration.plan import BLOCKS, Plan  # noqa: E402
from loadgen.calibration.timing import Stopwatch  # noqa: E402
from tests.support.calibrations import DENSE  # noqa: E402


def test_every_planned_size_is_measured_once() -> None:
    plan, watch = Plan.up_to(512), Stopwatch("cpu", 1, warmups=0)
    with torch.inference_mode():
        decoder = Decoder(DENSE, plan.cache_tokens, dtype=torch.float32, device="cpu")
        prefills = list(measure.prefills(decoder, plan, watch))
        decodes = list(measure.decodes(decoder, plan, watch))
        prompts = list(measure.prompts(decoder, plan, watch))
        loads = [
            row
            for tier in measure.tiers(decoder, plan, 4)
            for row in measure.loads(tier, plan, watch)
        ]
        copied, _ = measure.hbm_copy(decoder, watch)
        tier = next(measure.tiers(decoder, plan, 4))
        assert list(measure.overlaps(decoder, tier, plan, 1)) == []
    assert [(row.new, row.context) for row in prefills] == list(dict.fromkeys(plan.prefill))
    assert [(row.batch, row.context) for row in decodes] == list(plan.decode)
    assert [row.tokens for row in prompts] == list(plan.prompts)
    kinds = {(row.kind, row.block) for row in loads}
    assert kinds == {(k, b) for k in ("chunk", "page", "store") for b in BLOCKS}
    assert {row.copied_bytes // row.tokens for row in loads} == {DENSE.kv_bytes_per_token(4)}
    assert copied == 2 * plan.cache_tokens * DENSE.kv_bytes_per_token(4) // DENSE.layers
