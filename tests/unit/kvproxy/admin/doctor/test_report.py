import json

from kvproxy.admin.doctor.diagnose import diagnose
from kvproxy.admin.doctor.facts import Fleet, Pass, ProbeFacts
from kvproxy.admin.doctor.report import as_json, as_text
from tests.support.doctor import well


def test_text_has_evidence_and_mend() -> None:
    probe = ProbeFacts({-1: [Pass(600, 0, 0.1), Pass(600, None, 0.1)]})
    fleet = Fleet([well(probe=probe), well("r1", trouble="http://r1: refused")])
    text = as_text(fleet, diagnose(fleet), probed=True)
    assert "r0  vllm 0.33.0, m, 16,000 tokens of KV; probe: 0, then ? of 600 cached" in text
    assert "r1  not reached" in text
    assert "ERROR [r1] replica_unreachable" in text
    assert "  seen: http://r1: refused" in text
    assert "mend: Start vLLM with --enable-prompt-tokens-details" in text
    assert text.endswith("1 errors, 1 warnings, 0 notes")
    assert max(map(len, text.splitlines())) <= 100


def test_a_well_fleet_that_was_not_probed() -> None:
    text = as_text(Fleet([well()]), [], probed=False)
    assert "Nothing found." in text
    assert "--probe" in text


def test_json() -> None:
    fleet = Fleet([well(probe=ProbeFacts({-1: [Pass(600, 0, 0.1)]}))])
    found = json.loads(json.dumps(as_json(fleet, diagnose(fleet))))
    assert found["replicas"][0]["probe"][0]["prompt_tokens"] == 600
    assert found["findings"] == []
