"""Does the engine render the same conversation to the same tokens tomorrow?"""

from collections.abc import Iterator

from kvproxy.admin.doctor.facts import Fleet, ReplicaFacts
from kvproxy.admin.doctor.finding import Finding, Severity

_AROUND = 24


def check(fleet: Fleet) -> Iterator[Finding]:
    for replica in fleet.reached:
        yield from _dated(replica, fleet.today)
        yield from _unsteady(replica)
        yield from _billing(replica, dropped=fleet.billing_dropped)


def _dated(replica: ReplicaFacts, today: tuple[str, ...]) -> Iterator[Finding]:
    text = replica.prompt.text or ""
    found = next((date for date in today if date in text), None)
    if found is not None:
        at = text.index(found)
        shown = " ".join(text[max(0, at - _AROUND) : at + len(found) + _AROUND].split())
        yield Finding(
            "template_dates",
            Severity.WARNING,
            replica.id,
            "The chat template prints the date: at midnight every cached prefix is lost at once.",
            f"a rendered prompt contains {shown!r}",
            'Pin it: --default-chat-template-kwargs \'{"date_string": "…"}\' where the template '
            "takes one, VLLM_SYSTEM_START_DATE=YYYY-MM-DD for gpt-oss, or --chat-template with a "
            "copy that prints none.",
        )


def _unsteady(replica: ReplicaFacts) -> Iterator[Finding]:
    if replica.prompt.steady is False:
        yield Finding(
            "template_changes",
            Severity.ERROR,
            replica.id,
            "The same conversation is rendered differently from one moment to the next: nothing "
            "can ever be found in a cache.",
            "two calls of /tokenize gave different tokens",
            "Use a --chat-template that prints no time and nothing random.",
        )


def _billing(replica: ReplicaFacts, *, dropped: bool) -> Iterator[Finding]:
    if replica.prompt.keeps_billing:
        yield Finding(
            "billing_line",
            Severity.NOTE if dropped else Severity.WARNING,
            replica.id,
            "Claude Code's x-anthropic-billing-header line, new in every request, reaches the "
            "model's prompt" + (" unless kvproxy drops it, as it does." if dropped else "."),
            "prompts that differ in that line alone got different tokens from /tokenize",
            "Keep canonical.billing_line on; clients that go past kvproxy need vLLM 0.32 or "
            "CLAUDE_CODE_ATTRIBUTION_HEADER=0.",
        )
