"""All checks over all facts, gravest findings first."""

from kvproxy.admin.doctor import (
    check_cache,
    check_engine,
    check_events,
    check_lmcache,
    check_probe,
    check_prompt,
)
from kvproxy.admin.doctor.facts import Fleet
from kvproxy.admin.doctor.finding import Finding

_CHECKS = (
    check_engine.check,
    check_cache.check,
    check_probe.check,
    check_lmcache.check,
    check_events.check,
    check_prompt.check,
)


def diagnose(fleet: Fleet) -> list[Finding]:
    found = [finding for check in _CHECKS for finding in check(fleet)]
    return sorted(found, key=lambda finding: -finding.severity)
