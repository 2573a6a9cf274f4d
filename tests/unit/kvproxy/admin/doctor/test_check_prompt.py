from typing import Any

from kvproxy.admin.doctor.check_prompt import check
from kvproxy.admin.doctor.facts import Fleet, PromptFacts
from kvproxy.admin.doctor.finding import Severity
from tests.support.doctor import well


def fleet(**facts: Any) -> Fleet:
    return Fleet([well(prompt=PromptFacts(**facts))], today=("28 Nov 2026",))


def test_a_template_that_prints_the_date() -> None:
    [found] = check(fleet(text="<system>Cutting Knowledge\nToday Date: 28 Nov 2026\nYou are"))
    assert found.code == "template_dates"
    assert "Today Date: 28 Nov 2026 You are" in found.evidence


def test_one_that_prints_none() -> None:
    assert list(check(fleet(text="You are helpful.", steady=True, keeps_billing=False))) == []


def test_one_that_is_never_the_same() -> None:
    [found] = check(fleet(steady=False))
    assert (found.code, found.severity) == ("template_changes", Severity.ERROR)


def test_a_billing_line_matters_where_nobody_drops_it() -> None:
    kept = fleet(keeps_billing=True)
    [found] = check(kept)
    assert found.severity is Severity.NOTE
    kept.billing_dropped = False
    [found] = check(kept)
    assert found.severity is Severity.WARNING
