from pathlib import Path

from loadgen.sample import Journal, Sample, read_journal


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    samples = [Sample("c", "t", 0, ttft_s=0.5, chunks=[0, 3]), Sample("c", "t", 1, error="timeout")]
    with Journal(tmp_path / "new" / "requests.jsonl") as journal:
        for sample in samples:
            journal.append(sample)
        # on disk already, not only when the journal is closed
        assert read_journal(tmp_path / "new" / "requests.jsonl") == samples
    assert [sample.ok for sample in samples] == [True, False]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with Journal(path) as journal:
        journal.append(Sample("c", "t", 0))
    path.write_bytes(path.read_bytes() + b'{"conversation":"c","tra')
    assert len(read_journal(path)) == 1
