"""The command line's part that is about service levels and ramps."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from loadgen.cli_types import COUNT, DURATION, Human
from loadgen.ramp.certify import CertifyRule
from loadgen.ramp.choose import RampRule
from loadgen.ramp.classic import ClassicRule
from loadgen.ramp.slo import Slo, parse_limit

F = TypeVar("F", bound=Callable[..., Any])


LIMIT = Human("limit", parse_limit)

_OPTIONS = (
    click.option("--slo", "slo", multiple=True, type=LIMIT,
                 help="What counts as served in time: ttft_s=2, itl_s=0.05, e2e_s=60; "
                 "ttft_s@16k=8 for prompts with 16k or more tokens that nobody sent before. "
                 "Repeat: all have to hold."),
    click.option("--ramp", type=click.Choice(["classic", "certify"]),
                 help="Start with --users and add more. classic: kv-cache-tester's gates on "
                 "--slo ttft_s. certify: find the most users served in time and hold them."),
    click.option("--max-users", default=64, type=click.IntRange(1, 100_000), show_default=True,
                 help="Where a ramp ends."),
    click.option("--attainment", default=0.95, type=click.FloatRange(0.01, 0.9999),
                 show_default=True, help="certify: share of requests that must meet the SLO."),
    click.option("--settle", default="60s", type=DURATION, show_default=True,
                 help="certify: engine time before a number of users is judged."),
    click.option("--window", default="180s", type=DURATION, show_default=True,
                 help="certify: engine time to look at a number of users."),
    click.option("--hold", default="600s", type=DURATION, show_default=True,
                 help="certify: engine time that the answer has to stand."),
    click.option("--period", default="30s", type=DURATION, show_default=True,
                 help="classic: engine time between two steps; also the period of "
                 "--max-new-tokens-per-period."),
    click.option("--ttft-metric", default="avg", type=click.Choice(["avg", "p95", "max"]),
                 show_default=True, help="classic: what is taken of each period's TTFTs."),
    click.option("--cooldown", is_flag=True,
                 help="classic: also the gates of its manual: 2, 3 or 5 good periods after bad "
                 "ones, and few requests in flight."),
    click.option("--max-working-set", default="0", type=COUNT, show_default=True,
                 help="classic: no more users above 90 % of so many live tokens, and none whose "
                 "first prompt would make them more; 0 = no limit."),
    click.option("--max-new-tokens-per-period", default="0", type=COUNT, show_default=True,
                 help="So many tokens may the first prompts of users bring who begin in one "
                 "--period; classic gives up who does not fit, certify lets them begin in the "
                 "next. 0 = no limit."),
)  # fmt: skip


def ramp_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def slo_of(given: dict[str, Any]) -> Slo | None:
    return Slo(given["slo"]) if given["slo"] else None


def ramp_of(given: dict[str, Any], users: int) -> RampRule | None:
    """ValueError, for a person, when the options do not go together."""
    kind, slo = given["ramp"], slo_of(given)
    rationed = given["max_new_tokens_per_period"]
    if kind is None:
        if rationed:
            raise ValueError("--max-new-tokens-per-period is for users that a --ramp adds")
        return None
    if rationed and given.get("workers", 1) > 1:
        raise ValueError("--max-new-tokens-per-period needs one process: leave out --workers")
    if slo is None:
        raise ValueError(f"--ramp {kind} needs --slo, e.g. --slo ttft_s=2")
    if not given["period"]:
        raise ValueError("--period must be longer than nothing")
    if users > given["max_users"]:
        raise ValueError(f"--users {users} is more than --max-users {given['max_users']}")
    if kind == "certify":
        return CertifyRule(
            slo,
            users_max=given["max_users"],
            users_first=users,
            attainment=given["attainment"],
            settle_s=given["settle"],
            window_s=given["window"],
            hold_s=given["hold"],
            new_tokens_max=given["max_new_tokens_per_period"],
            period_s=given["period"],
        )
    ttft_max_s = slo.most_s("ttft_s", 0)
    if ttft_max_s is None:
        raise ValueError("--ramp classic needs --slo ttft_s=…")
    return ClassicRule(
        ttft_max_s,
        users_max=given["max_users"],
        users_first=users,
        period_s=given["period"],
        value=given["ttft_metric"],
        working_set_tokens_max=given["max_working_set"],
        cooldown=given["cooldown"],
        new_tokens_max=given["max_new_tokens_per_period"],
    )
