from kvproxy.core.retry_budget import RetryBudget


def test_a_lost_replica_can_be_made_good_at_once() -> None:
    budget = RetryBudget(burst=64.0, left=64.0)
    assert all(budget.spend() for _ in range(64))
    assert not budget.spend()


def test_retries_stay_a_share_of_requests() -> None:
    budget = RetryBudget(share=0.25, burst=10.0, left=0.0)
    tried = 0
    for _ in range(1000):
        budget.earn()
        while budget.spend():
            tried += 1
    assert tried == 250


def test_what_is_saved_is_bounded() -> None:
    budget = RetryBudget(share=1.0, burst=5.0, left=0.0)
    for _ in range(100):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == 5
