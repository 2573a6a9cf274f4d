import time
from pathlib import Path

from kvproxy.ops.process_gauges import ProcessGauges


def values(gauges: ProcessGauges) -> dict[str, float]:
    return {s.name: s.value for family in gauges.collect() for s in family.samples}


def test_they_are_of_this_process() -> None:
    before = values(ProcessGauges(began_at=5.0))
    kept = bytes(64 * 2**20).replace(b"\0", b"x")
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    after = values(ProcessGauges(began_at=5.0))
    assert after["process_start_time_seconds"] == 5.0
    assert after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"] + 0.05
    grown = after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]
    assert grown > len(kept) / 2


def test_a_system_without_proc_tells_the_rest(tmp_path: Path) -> None:
    for written in (None, b"", b"1", b"no number"):
        file = tmp_path / "statm"
        if written is not None:
            file.write_bytes(written)
        told = values(ProcessGauges(statm=file))
        assert set(told) == {"process_cpu_seconds_total", "process_start_time_seconds"}
