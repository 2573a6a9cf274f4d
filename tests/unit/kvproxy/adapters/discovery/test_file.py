import logging
from pathlib import Path

import pytest

from kvproxy.adapters.discovery.file import FileSource
from kvproxy.core.discovered import Entries


async def test_a_file_is_read_when_it_changes_and_only_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    path, found = tmp_path / "replicas.yaml", list[Entries]()
    source = FileSource(path, 1.0)
    await source.look(found.append)
    await source.look(found.append)
    assert found == []
    assert len(caplog.records) == 1
    path.write_text("- http://a:1\n- {url: http://b:1, weight: 2}\n")
    await source.look(found.append)
    await source.look(found.append)
    assert found == [["http://a:1", {"url": "http://b:1", "weight": 2}]]
    path.write_text("- http://a:1\n- [1]\n")
    await source.look(found.append)
    path.write_text("{")
    await source.look(found.append)
    assert len(found) == 1
    assert len(caplog.records) == 3
    new = tmp_path / "new"
    new.write_text('{"replicas": ["http://c:1"]}')
    new.replace(path)
    await source.look(found.append)
    assert found[1:] == [["http://c:1"]]
    path.write_text("")
    await source.look(found.append)
    assert len(found) == 2, "it may be about to be written"
    path.write_text("- http://d:1\n")
    await source.look(found.append)
    path.write_text("")
    for _ in range(3):
        await source.look(found.append)
    assert found[2:] == [["http://d:1"], []]
