import json
from dataclasses import asdict

from loadgen.calibration.records import KV_BYTES, Options
from tests.support.calibrations import measured


def test_everything_measured_can_be_written() -> None:
    found = json.loads(json.dumps(asdict(measured(512))))
    assert found["prefill"][0]["time"]["repeats"] == 5
    assert found["plan"]["max_context"] == 512


def test_defaults_are_what_engines_run() -> None:
    options = Options("cpu")
    assert (options.dtype, KV_BYTES[options.kv_dtype]) == ("bf16", 2)
