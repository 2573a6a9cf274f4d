"""Headers as operators name them: `x-name`, or `x-internal-*` for all that begin so."""

from typing import Annotated

from pydantic import AfterValidator, Field

from kvproxy.core.header_rules import NEEDED
from kvproxy.settings.kinds import FROM_LIST

# Of those in front of kvproxy and in browsers: what they prove is of no use to an engine.
CLIENT_SECRETS = (
    "cookie",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-auth-request-access-token",
    "x-amzn-oidc-accesstoken",
    "x-amzn-oidc-data",
    "x-goog-iap-jwt-assertion",
    "x-ms-token-aad-access-token",
    "x-ms-token-aad-id-token",
    "cf-access-jwt-assertion",
)
REPLICA_SECRETS = ("set-cookie",)

_Rule = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9!#$%&'+.^_`|~-]{1,128}\*?)$")]


def _can_be_missed(rules: tuple[str, ...]) -> tuple[str, ...]:
    for rule in rules:
        name, all_of = rule.lower().removesuffix("*"), rule.endswith("*")
        hit = sorted(each for each in NEEDED if each == name or (all_of and each.startswith(name)))
        if hit:
            raise ValueError(f"{rule!r} would drop {hit[0]}, without which nobody can read it")
    return rules


Allowed = Annotated[tuple[_Rule, ...], FROM_LIST, Field(max_length=256)]
Dropped = Annotated[
    tuple[_Rule, ...], FROM_LIST, Field(max_length=256), AfterValidator(_can_be_missed)
]
