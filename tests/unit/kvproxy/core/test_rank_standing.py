from kvproxy.core.rank_standing import RankStanding


def test_ranks_are_known_in_part_until_all_is_told_again() -> None:
    standing = RankStanding()
    standing.reset("r", 1, complete=False)
    assert standing.is_partial("r", 1)
    assert not standing.is_partial("r", 0)
    assert standing.any_partial("r")
    assert not standing.any_partial("q")
    standing.reset("r", 1, complete=True)
    assert not standing.any_partial("r")


def test_one_rank_behind_is_enough_and_a_replica_that_goes_takes_it_along() -> None:
    standing = RankStanding()
    standing.behind("r", 0, so=True)
    standing.behind("r", 1, so=True)
    standing.behind("r", 0, so=False)
    assert standing.any_behind("r")
    standing.reset("r", 0, complete=False)
    standing.forget("r")
    assert not standing.any_behind("r")
    assert not standing.any_partial("r")
