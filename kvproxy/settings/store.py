"""What several proxies of one fleet share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import Count, Seconds, Secret, Switch

StoreUrl = Annotated[
    str, Field(pattern=r"^((rediss?://[^/?#@\s]+(/[0-9]+)?)|(unix:///[^?#@\s]+))?$", max_length=256)
]


class StoreSettings(BaseModel):
    """A Valkey or Redis server through which several proxies keep a conversation on one replica."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    url: StoreUrl = Field(
        default="",
        description="Where the server listens: redis://host:port, rediss:// for TLS, or "
        "unix:///path; a database number may follow. Empty: this proxy is alone. Set it when more "
        "than one proxy serves the same replicas. Needs the extra `kvproxy[store]`.",
    )
    username: str = Field(
        default="", max_length=256, description="Name to log in with, where the server asks."
    )
    password: Secret | None = Field(
        default=None, description="Password to log in with, where the server asks."
    )
    namespace: str = Field(
        default="kvproxy",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Beginning of all keys, and key of the digests that stand for sessions. Set it "
        "when several fleets use one server; it must be the same on all proxies of a fleet.",
    )
    deadline_s: Seconds = Field(
        default=0.005,
        gt=0,
        description="Longest time that the first turn of a conversation waits for the server; then "
        "it is placed by what this proxy knows. Raise it when the server is in another zone.",
    )
    share_spellings: Switch = Field(
        default=True,
        description="Keep the first spelling of tool schemas and arguments in the server, so that "
        "all proxies forward the same. Turn it off to keep text of prompts out of it.",
    )
    spellings_max: Count = Field(
        default=20_000,
        ge=1,
        description="Spellings kept in the server, 0.2 to 5 kB each; the longest unused go first.",
    )
    prefixes_max: Count = Field(
        default=4096,
        ge=1,
        description="Beginnings of prompts that the server remembers for proxies that start, 30 "
        "bytes each. Raise it with the number of system prompts times replicas.",
    )
