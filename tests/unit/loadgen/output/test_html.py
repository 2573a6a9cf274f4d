import json
import re
from pathlib import Path

import pytest

from loadgen.output.html import page
from loadgen.output.timeline import timeline
from loadgen.stats import summarise
from tests.support.made_run import DURATION_S, made_run


@pytest.fixture(scope="module")
def made() -> str:
    record, samples, scrapes = made_run()
    return page(record, timeline(samples, 1.0, DURATION_S, 10.0), scrapes, 1.0)


def test_it_needs_nothing_but_itself(made: str) -> None:
    assert "default-src 'none'" in made
    assert not re.search(r"""(?:src|href)=["'](?!data:,)""", made)
    assert "{{" not in made.partition("<style>")[0]
    assert made.count("<script") == 2
    assert "The MIT License" in (Path("loadgen/output/page/vendor/LICENSE")).read_text()


def test_its_data_is_the_run_and_cannot_end_its_element(made: str) -> None:
    text = made.partition('id="data">')[2].partition("</script>")[0]
    data = json.loads(text)
    assert "<" not in text
    assert data["record"]["settings"]["model"] == "</script><b>m"
    assert {len(values) for values in data["series"].values()} == {90}
    assert data["advice"]["hbm_tokens"] == 60_000
    assert sum(map(sum, data["replicas"].values())) == data["record"]["summary"]["ok"]
    tiers = data["tiers"]
    shares = [tiers[name][5] for name in ("hbm", "dram", "computed")]
    assert shares == pytest.approx([720.0, 240.0, 240.0])


def test_a_run_of_nothing_has_a_page() -> None:
    record, _, _ = made_run()
    summary = record["summary"]
    assert isinstance(summary, dict)
    record |= {"ramp": None, "summary": summary | summarise([], 16)}
    assert "Load run" in page(record, timeline([], 1.0, 0.0, 10.0), [], 1.0)
