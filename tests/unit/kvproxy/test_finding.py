"""From a file to the table; tests/integration/test_discovery.py has a cluster."""

from pathlib import Path

import pytest

from kvproxy import finding
from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import eventually, proxied


async def test_replicas_come_and_go_with_the_file_and_wrong_entries_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "replicas.yaml"
    async with emulated(EmulatorSettings(), n=3) as urls:
        wrong = f"- {{url: '{urls[1]}', weight: -1, api_key: hunter2}}\n- http://u:hunter2@h:1\n"
        path.write_text(f"- {urls[0]}\n{wrong}- {urls[2]}\n")
        asked = {"file": str(path), "interval_s": 0.02}
        async with proxied([], discovery=asked) as (app, _):
            shown = [replica.url for replica in app.router.replicas]
            assert shown == [urls[0], urls[2]]
            assert f"{urls[1]} is no replica: weight: must be greater than 0" in caplog.text
            assert "http://…@h:1 is no replica" in caplog.text
            assert "hunter2" not in caplog.text
            path.write_text(f"- {urls[1]}\n")
            await eventually(lambda: [r.url for r in app.router.replicas] == [urls[1]])
            await eventually(lambda: app.router.replicas[0].up)


async def test_more_than_can_be_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "_REPLICAS_MAX", 2)
    path = tmp_path / "replicas.yaml"
    async with emulated(EmulatorSettings(), n=3) as urls:
        path.write_text("".join(f"- {url}\n" for url in urls))
        async with proxied([], discovery={"file": str(path)}) as (app, _):
            assert len(app.router.replicas) == 2
    assert "3 replicas are too many; the first 2 are used" in caplog.text


async def test_replicas_of_settings_are_not_a_sources_to_remove(tmp_path: Path) -> None:
    path = tmp_path / "replicas.yaml"
    path.write_text("[]")
    async with emulated(EmulatorSettings()) as urls:
        asked = {"file": str(path), "interval_s": 0.02}
        async with proxied(urls, discovery=asked) as (app, _):
            assert [replica.url for replica in app.router.replicas] == urls
            path.write_text(f"- {urls[0]}\n")
            await eventually(lambda: app.finding.found["file"] == 1)
            assert app.table.listing()[0]["origin"] == "file, settings"
            path.write_text("[]")
            await eventually(lambda: app.finding.found["file"] == 0)
            assert [row["leaving"] for row in app.table.listing()] == [False]
            assert app.table.listing()[0]["origin"] == "settings"


async def test_one_that_another_source_has_leaves_the_others_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "replicas.yaml"
    async with emulated(EmulatorSettings(), n=3) as urls:
        path.write_text(f"- {{url: '{urls[0]}', id: mine}}\n- {urls[1]}\n- {urls[2]}\n")
        asked = {"file": str(path), "interval_s": 0.02}
        async with proxied(urls[:1], discovery=asked) as (app, _):
            assert [replica.url for replica in app.router.replicas] == urls
            assert f"{urls[0]} is replica" in caplog.text
