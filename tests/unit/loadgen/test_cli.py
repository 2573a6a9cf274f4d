import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loadgen.cli import EXIT_INVALID, emulate, loadgen
from loadgen.emulator import EmulatorSettings
from tests.support.chat_mock import chat_mock
from tests.support.emulated import emulated
from tests.support.traces import weka_bytes


def run(*arguments: object) -> Result:
    return CliRunner().invoke(loadgen, [str(argument) for argument in arguments])


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    (tmp_path / "x.json").write_bytes(weka_bytes())
    return tmp_path


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The mock in a loop of its own: the command under test runs another."""
    loop = asyncio.new_event_loop()
    url: list[str] = []
    ready, over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with chat_mock() as mock:
            url.append(mock.url)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield url[0]
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


@pytest.mark.parametrize(("lag", "status"), [("1h", 0), ("0.000001", EXIT_INVALID)])
def test_a_replay_writes_its_files_prints_a_summary_and_says_whether_it_kept_up(
    traces: Path, endpoint: str, tmp_path: Path, lag: str, status: int
) -> None:
    out, arms = tmp_path / "out", tmp_path / "arms.json"
    done = run(
        "--traces", traces, "--url", endpoint, "--users", 1, "--think-scale", 0.01,
        "--start-spread", "0", "--max-context", "1k", "--output", out, "--json", arms,
        "--max-client-lag", lag,
    )  # fmt: skip
    assert done.exit_code == status, done.output
    assert "2 ended, 2 ok" in done.output
    assert f"report: {out / 'report.html'}" in done.output
    assert len((out / "requests.jsonl").read_bytes().splitlines()) == 2
    (arm,) = json.loads(arms.read_bytes())["arms"]
    assert arm["requests"] == 2
    assert arm["ttft_p95_s"] > 0


def test_a_crossed_threshold_fails_and_a_run_can_be_gone_on_with(
    traces: Path, endpoint: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (
        "--traces", traces, "--url", endpoint, "--users", 1, "--think-scale", 0.001,
        "--start-spread", "0", "--max-context", "1k", "--output", out, "--max-client-lag", "10s",
        "--slo", "ttft_s=30",
    )  # fmt: skip
    done = run(*arguments, "--fail-if", "ttft_p95_s>30", "--fail-if", "slo.attainment<1")
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} >= {"report.html", "metrics.prom", "run.json"}
    done = run(*arguments, "--resume", "--fail-if", "ttft_p95_s>0", "--fail-if", "requests>2")
    assert done.exit_code == 99, done.output
    assert "FAILED ttft_p95_s>0: it is" in done.output
    assert "requests>2" not in done.output
    assert len((out / "requests.jsonl").read_bytes().splitlines()) == 2
    assert run(*arguments, "--seed", 2, "--resume").exit_code == 2
    assert "no 'speed'" in run(*arguments, "--fail-if", "speed>1").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--traces and --url are needed"),
        ((), "kvproxy loadgen synth --out traces"),
        (("--users", "0"), "Invalid value for '--users'"),
        (("--max-context", "many"), "Invalid value for '--max-context'"),
        (("--duration", "soon"), "Invalid value for '--duration'"),
        (("inspect", "--traces", "/absent"), "does not exist"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.output


def test_a_missing_key_bad_traces_and_a_dead_endpoint_are_named(
    traces: Path, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    done = run("--traces", traces, "--url", url, "--api-key-env", "NO_SUCH_VARIABLE")
    assert "NO_SUCH_VARIABLE is not set" in done.output
    done = run("--traces", traces, "--url", url)
    assert (done.exit_code, url in done.output) == (1, True)
    (traces / "y.json").write_text("{}")
    done = run("--traces", traces, "--url", url)
    assert (done.exit_code, "y.json" in done.output) == (1, True)


def test_a_url_that_is_none(traces: Path) -> None:
    done = run("--traces", traces, "--url", "localhost:80")
    assert done.exit_code == 2
    assert "not an http(s) URL" in done.output


def test_emulate_is_at_hand() -> None:
    assert emulate.name == "emulate"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--fail-if", "ttft_p95>1"), "did you mean ttft_p95_s"),
        (("--fail-if", "slo.attainment<1"), "needs --slo"),
        (("--fail-if", "ramp.users<2"), "needs --ramp"),
        (("--requests", 0), "--requests 0 would ask for nothing"),
        (("--duration", "0s"), "--duration 0 would ask for nothing"),
        (("--max-output", 0), "--max-output 0 would ask for nothing"),
        (("--slow-readers", 0.5, "--slow-bytes-per-s", 0), "would let nothing pass"),
        (("--input-tokens-per-min", 0), "would let nothing pass"),
        (("--ramp", "classic", "--slo", "ttft_s=1", "--period", "0s"), "--period"),
        (("--duration", "5s", "--warm-up", "5s"), "would leave nothing"),
        (("--warm-up", "5s", "--ramp", "classic", "--slo", "ttft_s=1"), "--settle"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_sent(
    traces: Path, arguments: tuple[object, ...], said: str
) -> None:
    done = run("--traces", traces, "--url", "http://127.0.0.1:9", *arguments)
    assert done.exit_code == 2
    assert said in done.output


def test_fewer_conversations_than_users_are_named(traces: Path, endpoint: str) -> None:
    done = run(
        "--traces", traces, "--url", endpoint, "--users", 3, "--think-scale", 0, "--start-spread",
        "0", "--max-client-lag", "10s", "--fail-if", "errors.timeout>0",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "1 conversations, played once, are not 3 users" in done.output
    assert "ended: traces played" in done.output


def test_a_run_without_one_answer_fails_and_says_why(traces: Path) -> None:
    with emulated(EmulatorSettings(time_scale=100.0)) as url:
        done = run(
            "--traces", traces, "--url", url, "--users", 1, "--start-spread", "0",
            "--time-scale", 100, "--model", "nobody", "--max-client-lag", "10s",
        )  # fmt: skip
    assert done.exit_code == 1
    assert "no request was answered" in done.output
    assert "http_4xx" in done.output
    assert "`nobody` does not exist" in done.output


def test_a_run_whose_endpoint_hangs_fails_too(traces: Path) -> None:
    with emulated(EmulatorSettings(prefill_tok_s=0.001)) as url:
        done = run(
            "--traces", traces, "--url", url, "--users", 1, "--start-spread", "0",
            "--duration", "1s", "--grace", "0.5s", "--max-client-lag", "10s",
        )  # fmt: skip
    assert done.exit_code == 1, done.output
    assert "all of them still waited" in done.output


def test_a_ramp_that_certifies_too_few_crosses_its_threshold(traces: Path, endpoint: str) -> None:
    done = run(
        "--traces", traces, "--url", endpoint, "--users", 1, "--max-users", 1, "--duration", "1s",
        "--ramp", "certify", "--slo", "ttft_s=30", "--max-client-lag", "10s", "--think-scale", 0,
        "--fail-if", "ramp.users<1",
    )  # fmt: skip
    assert done.exit_code == 99, done.output
    assert "FAILED ramp.users<1: it was not measured" in done.output
