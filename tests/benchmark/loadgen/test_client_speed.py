"""What the client adds to a time to first token, and how many streamed events a core takes.

The endpoint is a mock with a true 20 ms and 500 tokens a second on every stream. Users do not
think, so all of them stream all the time. A round in which other work kept the client from a core
for more than a tenth of the time says nothing about the client and is not counted.
"""

import urllib.request

import msgspec
import pytest
import uvloop

from loadgen.run import RunSettings, run_load
from loadgen.schedule import Timing
from loadgen.traces.load import load_traces
from loadgen.traces.synth import write_traces
from tests.support.token_mock import TTFT_S, token_mock

ROUNDS = 4
CPU_WAIT_MAX = 0.1
SECONDS = 6.0


class Truth(msgspec.Struct):
    requests: int
    ttft_mean_s: float
    tokens: int


def truth(url: str) -> Truth:
    with urllib.request.urlopen(f"{url}/truth") as answer:
        return msgspec.json.decode(answer.read(), type=Truth)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("users", "allowed_s"), [(8, 0.002), (32, 0.005), (128, 0.010)])
def test_reported_ttft_is_the_true_one(users: int, allowed_s: float, tmp_path) -> None:
    write_traces(max(32, users), 1, tmp_path)
    traces = load_traces(tmp_path, 128_000)
    timing = Timing(think_scale=0.0, start_spread_s=1.0)
    errors_s: list[float] = []
    with token_mock() as url:
        settings = RunSettings(url, users, duration_s=SECONDS, grace_s=0.1, timing=timing)
        for _ in range(ROUNDS):
            truth(url)
            summary = uvloop.run(run_load(settings, traces)).summary
            true = truth(url)
            client = summary["client"]
            events_per_core_s = true.tokens / summary["duration_s"] / client["cpu"]
            print(
                f"\n{users} users: ttft mean {summary['ttft_mean_s'] * 1e3:.2f} ms "
                f"(left the mock after {true.ttft_mean_s * 1e3:.2f}), {summary['requests']} "
                f"requests, {true.tokens / summary['duration_s']:.0f} events/s, "
                f"{events_per_core_s:.0f} per second of a core; "
                f"own lag p99 {client['lag_p99_s'] * 1e3:.1f} ms, "
                f"kept from a core {client['cpu_wait'] or 0:.1%}"
            )
            assert summary["errors"] == {}
            assert events_per_core_s > 20_000
            if (client["cpu_wait"] or 0) <= CPU_WAIT_MAX:
                errors_s.append(summary["ttft_mean_s"] - TTFT_S)
                break
    if not errors_s:
        pytest.skip("other work kept the client from its core in every round")
    assert errors_s[0] <= allowed_s
