"""`--fail-if 'ttft_p95_s>0.8'`: what makes a run fail, so that pipelines can hold it to figures."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

EXIT_FAILED = 99

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_THRESHOLD = re.compile(r"([a-z0-9_.]+)(>=|<=|>|<)([0-9.eE+-]+)(%?)")


@dataclass(frozen=True, slots=True)
class Threshold:
    """`figure` names a number of the summary, with dots for what is inside another."""

    text: str
    figure: str
    comparison: str
    limit: float

    @property
    def root(self) -> str:
        """What has to be in the summary, whatever happens in a run."""
        return self.figure.partition(".")[0]

    def crossed(self, summary: Mapping[str, object]) -> str | None:
        """Why the run fails, None when it does not. A figure that is unknown fails it: what was
        not measured was not kept."""
        value: object = summary
        for name in self.figure.split("."):
            listed = isinstance(value, Mapping) and name in value
            if not listed and value is summary.get("errors"):
                value, listed = {name: 0}, True  # what did not happen is not listed
            if not listed or not isinstance(value, Mapping):
                raise ValueError(f"{self.text!r}: the summary has no {self.figure!r}")
            value = value[name]
        if value is None:
            return f"{self.text}: it was not measured"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.text!r}: {self.figure} is no number")
        if _OPERATORS[self.comparison](value, self.limit):
            return f"{self.text}: it is {value:.6g}"
        return None


def parse_threshold(text: str) -> Threshold:
    """ValueError says what is accepted."""
    found = _THRESHOLD.fullmatch(text.replace(" ", ""))
    try:
        limit = float(found[3]) if found else None
    except ValueError:
        limit = None
    if found is None or limit is None:
        raise ValueError(
            f"{text!r} is no threshold; accepted: ttft_p95_s>0.8, error_rate>1%, "
            "hit_rate_reported<0.9, slo.attainment<95%"
        )
    return Threshold(text, found[1], found[2], limit / 100 if found[4] else limit)
