from kvproxy.core.event_sequence import EventSequence, Verdict


def after(*applied: tuple[int, float]) -> EventSequence:
    sequence = EventSequence()
    for number, at in applied:
        assert sequence.judge(number, at) is Verdict.APPLY
        sequence.applied(number, at)
    return sequence


def test_numbers_in_order_apply() -> None:
    sequence = after((0, 1.0), (1, 2.0))
    assert sequence.next == 2
    assert sequence.complete


def test_a_jump_is_a_gap_and_changes_nothing() -> None:
    sequence = after((0, 1.0))
    assert sequence.judge(5, 9.0) is Verdict.GAP
    assert sequence.judge(1, 2.0) is Verdict.APPLY


def test_a_number_that_goes_back_is_old_or_another_engine() -> None:
    sequence = after((0, 1.0), (1, 2.0), (2, 3.0))
    assert sequence.judge(1, 2.0) is Verdict.OLD
    assert sequence.judge(2, 3.0) is Verdict.OLD
    assert sequence.judge(0, 4.0) is Verdict.RESTART
    assert sequence.judge(2, 2.5) is Verdict.RESTART
    sequence.restarted()
    assert sequence.judge(0, 0.5) is Verdict.APPLY


def test_a_replay_proves_itself_by_the_last_batch_applied() -> None:
    sequence = EventSequence()
    assert sequence.replay_from == 0
    assert sequence.continues(0, 1.0)
    assert not sequence.continues(3, 1.0)
    sequence = after((0, 1.0), (1, 2.0))
    assert sequence.replay_from == 1
    assert sequence.continues(1, 2.0)
    assert not sequence.continues(1, 2.5)
    assert not sequence.continues(2, 3.0)


def test_what_was_missed_leaves_the_stream_incomplete() -> None:
    sequence = EventSequence()
    sequence.missed(7)
    assert not sequence.complete
    assert sequence.judge(7, 1.0) is Verdict.APPLY
    sequence.missed(0)
    assert sequence.complete
