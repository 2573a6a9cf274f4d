"""Requests that nobody here understands: which model they are for, told to the engine by the name
that it knows."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from kvproxy.core.access import Caller
from kvproxy.core.identify import HeaderRule, identify
from kvproxy.core.naming import Named, passing
from kvproxy.core.passing import models_in_form
from kvproxy.core.pools import Pools
from kvproxy.core.transfers import members_of
from kvproxy.core.upgrade import asking_for, model_asked_for


class Asked(Protocol):
    """What is looked at of an exchange; the target of one that tunnels names the model."""

    target: str
    tunnels: bool

    @property
    def header(self) -> Mapping[str, str]: ...


def pass_on(
    pools: Pools, rules: Sequence[HeaderRule], exchange: Asked, caller: Caller, body: bytes
) -> tuple[Named, bytes]:
    """The model, and the body to forward. Raises ProxyError model_not_found for what the caller may
    not use, by the name that was sent, forbidden for members that it may not say, and as
    members_of and Pools.serve."""
    session = identify("", "", exchange.header, {}, rules).session
    if exchange.tunnels:
        sent = model_asked_for(exchange.target)
        caller.may_use(sent)
        named = Named(sent, pools.serve(sent, session.encode))
        if named.model != sent:
            exchange.target = asking_for(exchange.target, named.model)
        return named, body
    kind = exchange.header.get("content-type", "")
    members = {} if caller.commands else members_of(body)
    if caller.key is not None and caller.key.models:
        for sent in models_in_form(body, kind):
            caller.may_use(sent)
    return passing(pools, body, kind, session, lambda sent: caller.may_use(sent, members))
