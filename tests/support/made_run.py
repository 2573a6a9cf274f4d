"""A run made up in every detail that a report shows: a ramp, three replicas, two tiers."""

from random import Random

from loadgen.honesty import verdict
from loadgen.output.scrape import Scraped
from loadgen.ramp.certify import CertifyRamp, CertifyRule
from loadgen.ramp.observe import attainment, observed
from loadgen.ramp.slo import Limit, Slo
from loadgen.run_values import RunSettings
from loadgen.sample import Sample
from loadgen.stats import spread, summarise
from tests.support.samples import sample

DURATION_S = 900.0
SLO = Slo((Limit("ttft_s", 1.0),))


def made_run() -> tuple[dict[str, object], list[Sample], list[Scraped]]:
    """run.json's content, the samples and the scrapes; the same every time."""
    random = Random(3)
    samples, scrapes = [], []
    for number in range(1200):
        due_s = number * 0.75
        ttft_s = random.lognormvariate(-1.6 if due_s < 500 else -0.6, 0.6)
        cached = random.choice((400, 900, 920, 930))
        samples.append(
            sample(
                conversation=f"t{number % 17}-1-0", trace=f"t{number % 17}", turn=number // 17,
                t_intended=due_s, t_first_token=due_s + ttft_s, t_end=due_s + ttft_s + 2,
                ttft_s=ttft_s, itl_s=random.uniform(0.01, 0.03), cached_tokens=cached,
                predicted_cached_tokens=cached, bound_tokens=940, replica=f"gpu-{number % 3}:8000",
                error="http_5xx" if number % 97 == 0 else "",
            )
        )  # fmt: skip
    for tick in range(0, int(DURATION_S), 10):
        for replica in range(3):
            counted = float(tick * 400)
            busy = random.randrange(5)
            scrapes.append(
                Scraped(
                    float(tick), f"gpu-{replica}:8000", running=busy, hbm_tokens=20_000,
                    kv_usage=busy / 8, prompt_tokens=counted, hbm_hits=counted * 0.6,
                    dram_hits=counted * 0.2,
                )
            )  # fmt: skip
    return _record(samples), samples, scrapes


def _record(samples: list[Sample]) -> dict[str, object]:
    ramp = CertifyRamp(CertifyRule(SLO, 32, users_first=4, settle_s=20, window_s=60, hold_s=200))
    heard = 0
    for second in range(int(DURATION_S)):
        ended = [s for s in samples[heard:] if s.t_end is not None and s.t_end <= second]
        heard += len(ended)
        ramp.tick(second, [observed(s, 1.0, ended=True) for s in ended], [])
    summary = summarise(samples, 16) | {
        "duration_s": DURATION_S,
        "loop_lag_s": spread([0.001]),
        "client": verdict([], [0.001], 0.005) | {"cpu": 0.12, "cpu_wait": None},
        "slo": attainment(samples, SLO, 1.0, DURATION_S),
    }
    notes = [{"at_s": note.at_s, "users": note.users, "why": note.why} for note in ramp.notes]
    settings = RunSettings("http://127.0.0.1:8080", users=4, slo=SLO)
    return {
        "settings": settings.public() | {"model": "</script><b>m", "traces": 17},
        "ended_because": "duration over",
        "ramp": ramp.result() | {"notes": notes},
        "summary": summary,
        "events": [
            {"at_s": 480.0, "command": "kill -9 $REPLICA", "status": 0, "took_s": 0.1, "said": ""},
            {"at_s": 700.0, "command": "start again", "status": 1, "took_s": 2.0, "said": "<no>"},
        ],
    }
