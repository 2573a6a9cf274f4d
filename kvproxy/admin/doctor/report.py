"""Findings for people and for scripts."""

import textwrap
from collections.abc import Sequence

from kvproxy.admin.doctor.facts import Fleet, ReplicaFacts
from kvproxy.admin.doctor.finding import Finding, Severity
from kvproxy.admin.doctor.pages import version_text

_MARKS = {Severity.ERROR: "ERROR", Severity.WARNING: "warning", Severity.NOTE: "note"}
_WIDTH = 96


def as_json(fleet: Fleet, findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "replicas": [_replica(replica) for replica in fleet.replicas],
        "lmcache_instances": [instance.id for instance in fleet.lmcache.instances],
        "findings": [finding.as_json() for finding in findings],
    }


def as_text(fleet: Fleet, findings: Sequence[Finding], *, probed: bool) -> str:
    lines = [_line(replica) for replica in fleet.replicas]
    lines.append("")
    for finding in findings:
        at = f" [{finding.replica}]" if finding.replica else ""
        head = f"{_MARKS[finding.severity]}{at} {finding.code}: {finding.what}"
        lines += textwrap.wrap(head, _WIDTH, subsequent_indent="  ")
        lines += _indented("seen: ", finding.evidence) + _indented("mend: ", finding.mend)
    if not findings:
        lines.append("Nothing found.")
    counts = [
        f"{sum(f.severity is severity for f in findings)} {_MARKS[severity].lower()}s"
        for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE)
    ]
    lines += ["", ", ".join(counts)]
    if not probed:
        lines.append(
            "Whether the cache path fires was not tried: --probe sends one prompt twice to each."
        )
    return "\n".join(lines)


def _indented(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        label + text, _WIDTH, initial_indent="  ", subsequent_indent="        ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _line(replica: ReplicaFacts) -> str:
    if replica.trouble:
        return f"{replica.id}  not reached"
    tokens = f"{replica.hbm_tokens:,} tokens of KV" if replica.hbm_tokens else "KV size unknown"
    engine = f"{replica.engine or 'engine'} {version_text(replica.version)}"
    models = ", ".join(replica.models)
    return f"{replica.id}  {engine}, {models}, {tokens}{_passes(replica)}"


def _passes(replica: ReplicaFacts) -> str:
    """`0 then 592 of 600 tokens cached`."""
    for passes in (replica.probe.passes if replica.probe else {}).values():
        if len(passes) == 2:
            cached = ["?" if each.cached_tokens is None else each.cached_tokens for each in passes]
            return f"; probe: {cached[0]}, then {cached[1]} of {passes[1].prompt_tokens} cached"
    return ""


def _replica(replica: ReplicaFacts) -> dict[str, object]:
    probe = replica.probe
    return {
        "id": replica.id,
        "url": replica.url,
        "reached": not replica.trouble,
        "engine": replica.engine,
        "version": version_text(replica.version),
        "models": list(replica.models),
        "block_size": replica.block_size,
        "hbm_tokens": replica.hbm_tokens,
        "event_sources": len(replica.events.sources),
        "probe": [
            {"rank": rank, "prompt_tokens": each.prompt_tokens,
             "cached_tokens": each.cached_tokens, "seconds": round(each.ttft_s, 4)}
            for rank, passes in (probe.passes if probe else {}).items() for each in passes
        ],
    }  # fmt: skip
