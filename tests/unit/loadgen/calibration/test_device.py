import pytest

torch = pytest.importorskip("torch", reason="torch is optional: pip install kvproxy[calibrate]")

from loadgen.calibration.device import clocks, describe, matmul_flops_per_s  # noqa: E402
from loadgen.calibration.timing import Stopwatch  # noqa: E402


def test_a_cpu_has_a_name_and_a_rate_but_no_clocks() -> None:
    found = describe("cpu")
    assert found["name"]
    assert found["memory_bytes"] == 0
    assert clocks("cpu") == {}
    assert matmul_flops_per_s("cpu", torch.float32, Stopwatch("cpu", 1)) > 0
