import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from loadgen.output.html import page
from loadgen.output.timeline import timeline
from loadgen.stats import summarise
from tests.support.made_run import DURATION_S, made_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


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


def browse(file: Path, size: str, *more: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    return subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--enable-logging=stderr", f"--user-data-dir={file.parent / 'profile'}",
         f"--window-size={size}", "--virtual-time-budget=3000", *more, file.as_uri()],
        capture_output=True, text=True, timeout=50, check=True,
    )  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize("size", ["1280,900", "390,844"])
def test_a_browser_draws_every_chart_without_complaint(
    made: str, tmp_path: Path, size: str
) -> None:
    file = tmp_path / "report.html"
    file.write_text(made)
    seen = browse(file, size, "--dump-dom")
    assert "CONSOLE" not in seen.stderr, seen.stderr
    assert 'data-ready="10"' in seen.stdout
    assert seen.stdout.count("<canvas") == 10
    assert "A DRAM tier pays" in seen.stdout or "HBM is enough" in seen.stdout
    assert "<b>m" not in seen.stdout.partition('id="what"')[2].partition("</p>")[0]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_a_picture_of_it(made: str, tmp_path: Path) -> None:
    file, picture = tmp_path / "report.html", tmp_path / "report.png"
    file.write_text(made)
    browse(file, "1280,2800", "--hide-scrollbars", f"--screenshot={picture}")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    # A blank page of that size is a tenth of this.
    assert picture.stat().st_size > 100_000
