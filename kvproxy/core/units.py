"""Numbers as people write them: counts (128k, 1.5M, 4Ki) and durations (30s, 5m, 1.5h)."""

import re
from fractions import Fraction

_COUNT_UNITS = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_DURATION_UNITS_S = {
    "": Fraction(1),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
# The digits are bounded, so that no input makes an integer of unbounded size.
_NUMBER = re.compile(r"([0-9][0-9_]{0,29}(?:\.[0-9]{1,12})?)\s?([A-Za-z]{0,3})")

_COUNT_HELP = "128000, 128k, 1.5M, 2G (thousands) or 4Ki, 64Mi, 1Gi (1024s)"
_DURATION_HELP = "30, 30s, 250ms, 5m, 1.5h, 2d (a plain number is seconds)"


def parse_count(text: str) -> int:
    """ "128k" -> 128000, "4Ki" -> 4096. ValueError, which says what is accepted, otherwise."""
    number, unit = _split(text, "a count", _COUNT_HELP)
    unit = unit.removesuffix("B") if unit.endswith("iB") else unit
    if unit not in _COUNT_UNITS:
        raise ValueError(f"{unit!r} is no unit of a count; accepted: {_COUNT_HELP}")
    count = number * _COUNT_UNITS[unit]
    if count.denominator != 1:
        raise ValueError(f"{text!r} is not a whole number; accepted: {_COUNT_HELP}")
    return count.numerator


def format_count(count: int) -> str:
    """The shortest text that `parse_count` reads back as the same number: 65536 -> "64Ki"."""
    assert count >= 0, "counts are not negative"
    texts = [str(count)]
    for unit, size in _COUNT_UNITS.items():
        thousandths, rest = divmod(count * 1000, size)
        if count >= size > 1 and rest == 0:
            whole, part = divmod(thousandths, 1000)
            texts.append(f"{whole}.{part:03}".rstrip("0").rstrip(".") + unit)
    return min(texts, key=len)


def short_count(count: float) -> str:
    """For people, rounded: 1234567 -> "1.2M", 45678 -> "46k", 999 -> "999"."""
    if count >= 1e6:
        return f"{count / 1e6:.1f}M"
    return f"{count / 1e3:.0f}k" if count >= 1e4 else f"{count:.0f}"


def parse_duration(text: str) -> float:
    """ "5m" -> 300.0 seconds. ValueError, which says what is accepted, otherwise."""
    number, unit = _split(text, "a duration", _DURATION_HELP)
    if unit not in _DURATION_UNITS_S:
        raise ValueError(f"{unit!r} is no unit of a duration; accepted: {_DURATION_HELP}")
    return float(number * _DURATION_UNITS_S[unit])


def _split(text: str, what: str, accepted: str) -> tuple[Fraction, str]:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:40]!r} is not {what}; accepted: {accepted}")
    return Fraction(match[1].replace("_", "")), match[2]
