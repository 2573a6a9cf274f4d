"""The settings model as a tree of keys: what stands at a path, and which paths there are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

# ("server", "port") or ("replicas", 0, "url")
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A key with a value of its own, as opposed to a group of keys."""

    path: tuple[str, ...]
    field: FieldInfo

    @property
    def is_list(self) -> bool:
        return any(part is tuple for part in _origins(self.field.annotation))

    @property
    def item(self) -> type[BaseModel] | None:
        """The model of the groups that a list is made of."""
        return next(_groups(self.field), None)

    @property
    def is_secret(self) -> bool:
        return SecretStr in _parts(self.field.annotation)

    @property
    def is_switch(self) -> bool:
        return bool in _parts(self.field.annotation)

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words, or nothing when the value is not one of a few words."""
        words = get_args(self.field.annotation)
        return words if words and all(isinstance(word, str) for word in words) else ()


def dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def leaves(model: type[BaseModel]) -> Iterator[Leaf]:
    """Every key of the model in its order; a list of groups, like replicas, counts as one key."""
    for name, field in model.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            for leaf in leaves(group):
                yield Leaf((name, *leaf.path), leaf.field)
        else:
            yield Leaf((name,), field)


def known_keys(model: type[BaseModel]) -> Iterator[Path]:
    """Every path there is, groups included; keys of list items stand under `name[]`."""
    for name, field in model.model_fields.items():
        yield (name,)
        for group in _groups(field):
            for path in known_keys(group):
                yield (f"{name}[]" if _is_list(field) else name, *path)


def fields_at(model: type[BaseModel], path: Path) -> dict[str, FieldInfo]:
    """The keys of the group at `path`; nothing when no group stands there."""
    if not path:
        return model.model_fields
    head, *rest = path
    field = model.model_fields.get(str(head))
    groups = list(_groups(field)) if field else []
    if not groups:
        return {}
    inner = rest[1:] if rest and isinstance(rest[0], int) else rest
    return fields_at(groups[0], tuple(inner))


def is_secret(model: type[BaseModel], path: Path) -> bool:
    """Whether the value at `path` must never be shown."""
    field = fields_at(model, path[:-1]).get(str(path[-1])) if path else None
    return field is not None and SecretStr in _parts(field.annotation)


def _is_list(field: FieldInfo) -> bool:
    return tuple in _origins(field.annotation)


def _groups(field: FieldInfo) -> Iterator[type[BaseModel]]:
    for part in _parts(field.annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part


def _parts(annotation: Any) -> list[Any]:
    """The annotation and everything inside it: `Secret | None` holds SecretStr and None."""
    return [annotation, *(part for arg in get_args(annotation) for part in _parts(arg))]


def _origins(annotation: Any) -> list[Any]:
    return [getattr(part, "__origin__", None) for part in _parts(annotation)]
