"""Who says which replicas there are, beside `replicas`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import FROM_LIST, Seconds

DnsUrl = Annotated[str, Field(pattern=r"^(srv\+)?https?://[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?$")]


class DiscoverySettings(BaseModel):
    """Replicas that come and go by themselves. Each source adds its own to `replicas`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    file: str = Field(
        default="",
        description="A file with a list as `replicas` has it, in YAML or JSON, that is read again "
        "whenever it changes. Set it where something else writes who is there.",
    )
    dns: Annotated[tuple[DnsUrl, ...], FROM_LIST] = Field(
        default=(),
        max_length=64,
        description="Names to resolve again and again: http://name:8000 for all addresses of the "
        "name, srv+http://name for the targets of its SRV records (needs `kvproxy[dns]`).",
    )
    interval_s: Seconds = Field(
        default=5.0,
        gt=0,
        description="Time between looks at the file and at names. Lower it where replicas change "
        "quickly.",
    )
    kubernetes_service: str = Field(
        default="",
        pattern=r"^([a-z0-9-]{1,63}/)?[a-z0-9.-]{0,253}$",
        description="A Service, as name or namespace/name, whose endpoints are replicas; they "
        "drain as soon as they terminate. Needs `kvproxy[kubernetes]` and the right to list and "
        "watch endpointslices and pods.",
    )
    kubernetes_port: str = Field(
        default="",
        max_length=63,
        description="Name of the Service's port where engines answer; empty: its first.",
    )
    kubernetes_selector: str = Field(
        default="",
        max_length=1024,
        description="Labels that pods must have, such as `role=decode,model=qwen`; empty: all of "
        "the Service.",
    )
    kubernetes_annotations: str = Field(
        default="kvproxy.dev/",
        max_length=253,
        description="Beginning of the annotations and labels of pods that are read: weight, role, "
        "port, scheme, hbm-tokens, events-port, events-replay-port, events-topic.",
    )
    kubernetes_api: str = Field(
        default="",
        pattern=r"^(https?://\S{1,256})?$",
        description="Where the API server is, such as http://127.0.0.1:8001 of `kubectl proxy`; "
        "empty: the pod's service account, else a kubeconfig.",
    )

    @property
    def sources(self) -> bool:
        return bool(self.file or self.dns or self.kubernetes_service)
