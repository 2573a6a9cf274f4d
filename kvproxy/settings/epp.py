"""Deciding for an Envoy gateway that moves the bytes itself."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import FROM_LIST, Count

ObjectivePair = Annotated[str, Field(pattern=r"^[^=\s]{1,253}=-?[0-9]{1,9}$")]


class EppSettings(BaseModel):
    """`kvproxy epp`: the endpoint picker of a Gateway API InferencePool."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on for Envoy's gRPC. 0.0.0.0 when Envoy is elsewhere.",
    )
    port: Count = Field(
        default=9002, le=65535, description="Port for Envoy's gRPC; 0 lets the system choose one."
    )
    tls_cert_file: str = Field(
        default="",
        description="Certificate chain in PEM; with tls_key_file gRPC is spoken over TLS. Set both "
        "where the gateway insists on it.",
    )
    tls_key_file: str = Field(default="", description="Key of tls_cert_file, in PEM.")
    fallbacks: Count = Field(
        default=0,
        le=8,
        description="Further endpoints named behind the chosen one, for a gateway that tries them "
        "in turn. Set it only with such a one: ORIGINAL_DST clusters take a single address.",
    )
    objectives: Annotated[tuple[ObjectivePair, ...], FROM_LIST] = Field(
        default=(),
        max_length=1024,
        description="Priorities of InferenceObjectives, as `name=priority`, lower first; a request "
        "that names one is held back by it. Unknown ones count as 0.",
    )

    def priorities(self) -> dict[str, int]:
        pairs = (pair.rpartition("=") for pair in self.objectives)
        return {name: int(priority) for name, _, priority in pairs}
