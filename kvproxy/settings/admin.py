"""Where operators connect."""

from pydantic import BaseModel, ConfigDict, Field, field_validator


class AdminSettings(BaseModel):
    """What operators see and do. Changes need an admin key, or this listener."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    listen: str = Field(
        default="",
        pattern=r"^(\S+:[0-9]{1,5})?$",
        description="host:port of a listener for operators alone: /admin and /metrics are served "
        "there and no more where clients connect. Empty: they stand beside the API. Set it to an "
        "address that clients cannot reach; without keys whoever reaches it may add and remove "
        "replicas.",
    )

    @field_validator("listen")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        port = value.rpartition(":")[2]
        if port and int(port) > 65535:
            raise ValueError(f"{port} is no port: at most 65535")
        return value

    def address(self) -> tuple[str, int] | None:
        """Host and port, None without one of its own."""
        host, _, port = self.listen.rpartition(":")
        return (host.strip("[]"), int(port)) if self.listen else None
