import pytest

torch = pytest.importorskip("torch", reason="torch is optional: pip install kvproxy[calibrate]")

from loadgen.calibration import attention  # noqa: E402
from loadgen.calibration.records import Options  # noqa: E402
from loadgen.calibration.smoke import smoke  # noqa: E402
from tests.support.calibrations import DENSE  # noqa: E402


def test_what_is_right_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    options = Options("cpu", dtype="fp32")
    assert smoke(DENSE, options, told.append)
    assert any("page of 16" in line for line in told)
    # A kernel that passes alone and is wrong in the model is found there.
    monkeypatch.setattr(attention, "choose", lambda *_: ("torch", {}))
    monkeypatch.setitem(attention.CANDIDATES, "torch", lambda q, k, v: torch.zeros_like(q))
    assert not smoke(DENSE, options, told.append)
