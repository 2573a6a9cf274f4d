"""Keys of `server` that are about several processes."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from kvproxy.settings.kinds import Count, Seconds


class WorkerKeys(BaseModel):
    """Part of the section `server`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    workers: Count = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes that serve clients. With more than one, one more process decides "
        "for all of them. Raise it when one core is not enough; leave a core for that process.",
    )
    hop_unsent_max_bytes: Count = Field(
        default=16 * 2**20,
        ge=4096,
        description="With workers: what one may have to say to the process that decides before "
        "it decides by itself. Raise it when kvproxy_hop_alone_total counts full.",
    )
    hop_silence_s: Seconds = Field(
        default=5.0,
        ge=2,
        description="With workers: a process that decides and says nothing for so long is given "
        "up for stuck. Raise it on machines that stand still for seconds.",
    )


def check_alone(workers: int, needs: Mapping[str, bool]) -> None:
    """Raises where something needs one process: `needs` says by key and reason what does."""
    for why, is_so in needs.items():
        if workers > 1 and is_so:
            context = {"at": ("server", "workers"), "why": why}
            raise PydanticCustomError("workers_alone", "must be 1 where {why} one process", context)
