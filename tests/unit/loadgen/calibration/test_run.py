import pytest

torch = pytest.importorskip("torch", reason="torch is optional: pip install kvproxy[calibrate]")

from loadgen.calibration.records import Options  # noqa: E402
from loadgen.calibration.run import calibrate, fuser  # noqa: E402
from tests.support.calibrations import EXPERTS  # noqa: E402


def test_a_small_model_is_calibrated_on_a_cpu() -> None:
    told: list[str] = []
    options = Options("cpu", dtype="fp32", kv_dtype="fp32", max_context=512, repeats=1)
    found = calibrate(EXPERTS, options, told.append)
    rows = found.prefill, found.decode, found.loads, found.prompts
    assert all(rows)
    assert found.attention == "torch"
    assert found.rates["matmul_flops_per_s"] > 0 < found.rates["hbm_copy_bytes_per_s"]
    assert len(told) == 3 + sum(map(len, rows))


def test_nothing_is_compiled_on_a_cpu() -> None:
    assert fuser(Options("cpu"))(len) is len
