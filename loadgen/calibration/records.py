"""What a calibration was asked for, and everything it measured: values without torch."""

from dataclasses import dataclass, field

from loadgen.calibration.plan import Plan

KV_BYTES = {"fp8": 1, "bf16": 2, "fp16": 2, "fp32": 4}


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one piece of work over its repeats."""

    median_s: float
    least_s: float
    most_s: float
    repeats: int


@dataclass(frozen=True, slots=True)
class Prefill:
    new: int
    context: int
    time: Timed


@dataclass(frozen=True, slots=True)
class Prompt:
    """A whole prompt from nothing, in steps of `chunk`."""

    tokens: int
    chunk: int
    time: Timed


@dataclass(frozen=True, slots=True)
class Decode:
    batch: int
    context: int
    time: Timed


@dataclass(frozen=True, slots=True)
class Load:
    """From pinned memory into pages of the cache, or for `store` the other way."""

    kind: str
    block: int
    tokens: int
    copied_bytes: int
    time: Timed


@dataclass(frozen=True, slots=True)
class Overlap:
    """A load beside a prefill that outlasts it: seconds of each alone and with the other."""

    kind: str
    block: int
    tokens: int
    load_alone_s: float
    load_s: float
    prefill_alone_s: float
    prefill_s: float


@dataclass(frozen=True, slots=True)
class Options:
    """`kv_dtype` fp8 halves what is copied and kept; attention still reads `dtype`."""

    device: str
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    max_context: int = 131_072
    repeats: int = 5
    fuse: bool = True
    seed: int = 0


@dataclass(slots=True)
class Measured:
    """Everything that was timed, and with what. `rates` are bytes and operations per second."""

    device: dict[str, object]
    attention: str
    attention_candidates: dict[str, str]
    page_copies: str
    weight_bytes: int
    activation_bytes: int
    plan: Plan
    rates: dict[str, float] = field(default_factory=dict)
    clocks: dict[str, dict[str, str]] = field(default_factory=dict)
    prefill: list[Prefill] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    decode: list[Decode] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)
