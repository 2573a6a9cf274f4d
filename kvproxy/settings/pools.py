"""Names that clients may send for a model."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from kvproxy.settings.kinds import FROM_LIST

PolicyName = Literal[
    "seconds", "sticky_least_loaded", "round_robin", "random", "session_hash", "longest_prefix"
]
_SHARE = r"^[^=\s]{1,256}(=[0-9]{1,9}(\.[0-9]{1,9})?)?$"


def _share(value: Any) -> Any:
    """`{model: M, weight: W}` is `M=W`."""
    if isinstance(value, dict) and set(value) in ({"model"}, {"model", "weight"}):
        weight = value.get("weight", 1)
        if not isinstance(weight, int | float) or isinstance(weight, bool) or weight < 0:
            raise ValueError(f"the weight of {value['model']!r} is not a number from 0")
        return (
            f"{value['model']}={weight:f}".rstrip("0").rstrip(".")
            if weight
            else (f"{value['model']}=0")
        )
    return value


def _listed(value: Any) -> Any:
    """One model may stand without a list."""
    return (value,) if isinstance(value, str | dict) else value


_SHARE_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": _SHARE},
        {
            "type": "object",
            "properties": {
                "model": {"type": "string"},
                "weight": {"type": "number", "minimum": 0},
            },
            "required": ["model"],
            "additionalProperties": False,
        },
    ]
}
Share = Annotated[
    str, Field(pattern=_SHARE), BeforeValidator(_share), WithJsonSchema(_SHARE_SCHEMA)
]


class ModelSettings(BaseModel):
    """A name for one model, or for several that share its conversations."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^\S{1,256}$",
        description="What clients send as `model`, and what /v1/models lists beside the replicas' "
        "own names; it may be the name of a model, whose requests are then split.",
    )
    serves: Annotated[tuple[Share, ...], FROM_LIST, BeforeValidator(_listed)] = Field(
        min_length=1,
        max_length=64,
        description="The model as replicas know it, or a LoRA adapter of theirs. Several, as "
        "`model=weight` or {model, weight}, split the conversations: each stays with the model it "
        "began with. At weight 0 a model stands in when no other has a replica that takes work.",
    )
    policy: PolicyName | None = Field(
        default=None,
        description="How a replica is chosen for these models, whatever name they are asked by; "
        "unset: policy.name. Requests are held back alike under every policy.",
    )

    def shares(self) -> list[tuple[str, float]]:
        """Of each model it serves."""
        pairs = (share.partition("=") for share in self.serves)
        return [(model, float(weight or 1)) for model, _, weight in pairs]


def from_mapping(value: Any) -> Any:
    """`name: model` and `name: {serves: …}` are entries of the list."""
    if not isinstance(value, dict):
        return tuple(value) if isinstance(value, list) else value
    entries = []
    for name, entry in value.items():
        fields = entry or {} if isinstance(entry, dict | None) else {"serves": entry}
        entries.append({"name": name, **fields})
    return tuple(entries)


def check_models(models: Sequence[ModelSettings]) -> None:
    """Raises where a name is there twice, a name splits nothing, or a model has two policies."""
    names: dict[str, int] = {}
    policies: dict[str, tuple[int, str | None]] = {}
    for index, entry in enumerate(models):
        if entry.name in names:
            context: dict[str, Any] = {"at": ("models", index, "name")}
            context |= {"value": entry.name, "first": names[entry.name]}
            message = "'{value}' is also that of models.{first}"
            raise PydanticCustomError("duplicate", message, context)
        names[entry.name] = index
        shares = entry.shares()
        if len({model for model, _ in shares}) < len(shares):
            context = {"at": ("models", index, "serves")}
            raise PydanticCustomError("duplicate", "a model is listed twice", context)
        for model, _ in shares:
            first, policy = policies.setdefault(model, (index, entry.policy))
            if policy != entry.policy:
                context = {"at": ("models", index, "policy"), "model": model, "first": first}
                message = "'{model}' has another policy in models.{first}"
                raise PydanticCustomError("policies", message, context)
