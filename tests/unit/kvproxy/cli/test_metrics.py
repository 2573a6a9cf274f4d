import re
from pathlib import Path

from click.testing import CliRunner

from kvproxy.cli.metrics import catalogue, metrics

ROOT = Path(__file__).parents[4]
# Of engines and of load runs, which are not kvproxy's own.
FOREIGN = ("kvproxy_loadgen_",)


async def test_the_page_is_current() -> None:
    written = (ROOT / "config/metrics.md").read_text()
    assert written == catalogue(), "run: make settings"


def test_it_is_a_command() -> None:
    shown = CliRunner().invoke(metrics)
    assert shown.exit_code == 0, shown.output
    assert "| `kvproxy_ttft_seconds` | histogram | replica |" in shown.output


async def test_rules_and_dashboards_name_metrics_that_exist() -> None:
    known = set(re.findall(r"`(kvproxy_\w+)`", catalogue()))
    used = set()
    for path in [
        *ROOT.glob("deploy/prometheus/rules/*"),
        *ROOT.glob("deploy/grafana/dashboards/*"),
    ]:
        used |= set(re.findall(r"\bkvproxy_\w+", path.read_text()))
    own = {name.removesuffix("_bucket") for name in used if not name.startswith(FOREIGN)}
    assert own <= known
    assert len(own) > 20
