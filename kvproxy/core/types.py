"""The values that pass between the steps of a request.

Structs of msgspec, not dataclasses: dozens are made for a request, and a frozen dataclass is made
field by field in Python.
"""

from array import array
from bisect import bisect_right
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct, field


class Tier(StrEnum):
    """Where a block lies, fastest first. HBM is a replica's own; the others may be shared."""

    HBM = "hbm"
    DRAM = "dram"
    DISK = "disk"
    REMOTE = "remote"


class Identity(Struct, frozen=True, gc=False):
    """Whose turn this is and on what evidence. `session` is never a credential or a request id.
    `retention_s`: for how long after it the client wants its prefix kept, 0 if it does not say."""

    tenant: str
    model: str
    session: str
    agent: str = ""
    parent: str = ""
    evidence: str = "none"
    retention_s: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.tenant, self.model, self.session, self.agent)

    @property
    def elder(self) -> "Identity | None":
        """The conversation that began this one: of a sub-agent another agent of its session, which
        is the main one if it names none, or else another session."""
        if self.agent:
            return Identity(self.tenant, self.model, self.session, self.parent)
        return Identity(self.tenant, self.model, self.parent) if self.parent else None


class Chain(Struct, gc=False):
    """The byte chain of a prompt, in arrays.

    `hashes[i]` covers everything up to and including block i, and `text_bytes[i]` is how much text
    that is, from which tokens are estimated. `root` seeds the first hash. Two have one entry a
    segment, since chains are most of what a conversation takes: `segment_ends` says behind how many
    blocks it ends, and `items` what it is and digests of it (core/items), so that two prompts can
    be compared part by part without their bytes.
    """

    root: int = 0

    hashes: "array[int]" = field(default_factory=lambda: array("Q"))
    text_bytes: "array[int]" = field(default_factory=lambda: array("I"))
    segment_ends: "array[int]" = field(default_factory=lambda: array("I"))
    items: "array[int]" = field(default_factory=lambda: array("Q"))

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def end(self) -> int:
        """The hash that covers everything."""
        return self.hashes[-1] if self.hashes else self.root

    def trim(self) -> None:
        """Give back the room that growing took in advance: most chains are kept for long."""
        self.hashes, self.text_bytes = self.hashes[:], self.text_bytes[:]
        self.segment_ends, self.items = self.segment_ends[:], self.items[:]

    def copy(self) -> "Chain":
        return self.until(len(self.hashes))

    def until(self, blocks: int) -> "Chain":
        """A chain of its own with the first `blocks` of this one."""
        ended = bisect_right(self.segment_ends, blocks)
        return Chain(
            self.root,
            self.hashes[:blocks],
            self.text_bytes[:blocks],
            self.segment_ends[:ended],
            self.items[:ended],
        )


class Splice(Struct, frozen=True, gc=False):
    """Replace bytes [start, end) of the client's body by `new`. Kinds: see core/canonical."""

    start: int
    end: int
    new: bytes
    kind: str


class Learned(NamedTuple):
    """What an answer taught: the prompt whose chain ends with `end` has so many tokens, of which
    `miss_tokens` took `replica`, with nothing else to prefill, `ttft_s`; 0: it was not alone."""

    replica: str
    end: int
    prompt_tokens: int
    miss_tokens: int
    ttft_s: float


class Usage(Struct, frozen=True, gc=False):
    """What an engine reports at the end of an answer, in tokens; cached is None if unreported.
    `created_tokens` of the prompt were put into the cache, None if unreported."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None
    created_tokens: int | None = None
