"""Logs are read whole, damaged or in several files; what shares bytes shares an engine's blocks."""

import json
from array import array
from base64 import b64encode
from pathlib import Path

import pytest

from loadgen.simulate.decision_log import LogError, files_of, read

HEAD = '{"kvproxy_decisions":1,"at":0}'


def line(n: int, at: float, blocks: list[int], **given: object) -> str:
    start = given.pop("start", 0)
    assert isinstance(start, int)
    ends = [(start + i + 1) * 1000 for i in range(len(blocks))]
    told = {
        "n": n,
        "at": at,
        "session": "s",
        "model": "m",
        "replica": "r0",
        "prompt_tokens": 0,
        "cached": 0,
        "blocks": b64encode(array("Q", blocks).tobytes()).decode(),
        "text_bytes": b64encode(array("I", ends).tobytes()).decode(),
    }
    return json.dumps(told | given)


def test_a_turn_shares_blocks_with_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "d"
    later = line(2, 20.0, [7, 8], start=4, base=1, keep=4, prompt_tokens=1500)
    path.write_text("\n".join([HEAD, line(1, 10.0, [1, 2, 3, 4], prompt_tokens=1000), later]))
    found = read(path, 64)
    first, second = found.arrivals
    assert (first.at_s, second.at_s) == (0.0, 10.0)
    assert (len(first.prompt.hashes), len(second.prompt.hashes)) == (1000 // 64, 1500 // 64)
    assert first.prompt.shared(second.prompt) == 1000 // 64
    assert (found.conversations(), found.replicas(), found.left_out) == (1, 1, 0)


def test_what_parts_in_the_middle_shares_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "d"
    other = line(2, 1.0, [1, 2, 13, 14], prompt_tokens=1000, session="t")
    path.write_text("\n".join([HEAD, line(1, 0.0, [1, 2, 3, 4], prompt_tokens=1000), other]))
    first, second = read(path, 50).arrivals
    assert first.prompt.shared(second.prompt) == 500 // 50
    assert (first.prompt.warm_blocks, second.prompt.warm_blocks) == (0, 10)


def test_damaged_lines_and_lost_beginnings_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "d"
    lost = line(3, 2.0, [9], base=2, keep=4, prompt_tokens=2000)
    whole = line(1, 0.0, [1], prompt_tokens=300)
    path.write_text("\n".join([HEAD, '{"n":1,', lost, whole, line(4, 3.0, [5])]))
    found = read(path, 64)
    assert (len(found.arrivals), found.left_out, found.damaged) == (1, 3, 1)


def test_older_files_come_first(tmp_path: Path) -> None:
    path = tmp_path / "d"
    for name in ("d", "d.1", "d.10", "d.2", "d.gz"):
        (tmp_path / name).write_text("")
    assert [file.name for file in files_of(path)] == ["d.10", "d.2", "d.1", "d"]


@pytest.mark.parametrize("text", ["", "no\n", '{"a":1}\n', '{"kvproxy_decisions":9}\n', HEAD])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "d").write_text(text)
    with pytest.raises(LogError):
        read(tmp_path / "d", 64)
