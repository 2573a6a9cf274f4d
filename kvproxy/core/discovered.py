"""Entries of `replicas:` made from what Kubernetes and DNS say."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Entry = str | dict[str, Any]
Entries = list[Entry]
# Told all that a source knows, each time that this changes.
Found = Callable[[Entries], None]

Json = Mapping[str, Any]
# What annotations may say of a replica, and what its entry calls it.
_PLAIN = {
    "weight": "weight",
    "hbm-tokens": "hbm_tokens",
    "role": "role",
    "events-topic": "events_topic",
}
_PORTS = {"events-port": "events_endpoint", "events-replay-port": "events_replay_endpoint"}


def from_addresses(scheme: str, addresses: Iterable[tuple[str, int]]) -> Entries:
    """An entry for each address, always in the same order."""
    return [f"{scheme}://{_host(ip)}:{port}" for ip, port in sorted(set(addresses))]


def from_slices(
    slices: Iterable[Json], pods: Mapping[str, Json], port_name: str, prefix: str
) -> Entries:
    """`slices` are EndpointSlices of one Service, `pods` its pods by name; `port_name`: of several
    ports, "" the first. Annotations, else labels, of pods that begin with `prefix` set what a
    Service cannot say.

    Endpoints that terminate are left out, so that their replicas drain; those that are not ready
    yet, or no more, are in, since kvproxy asks replicas itself and a cache outlives a bad minute.
    A pod that has addresses of both families is found at that of IPv4.
    """
    entries: dict[str, Entry] = {}
    for each in sorted(slices, key=lambda each: each.get("addressType") != "IPv6"):
        port = _port(each.get("ports") or [], port_name)
        if port is None or each.get("addressType") == "FQDN":
            continue
        for endpoint in each.get("endpoints") or []:
            addresses = endpoint.get("addresses") or []
            if not addresses or (endpoint.get("conditions") or {}).get("terminating"):
                continue
            name = pod_of(endpoint)
            entry = _entry(addresses[0], port, name, _notes(pods.get(name, {}), prefix))
            entries[entry["id"]] = entry
    return [entries[name] for name in sorted(entries)]


def pod_of(endpoint: Json) -> str:
    return str((endpoint.get("targetRef") or {}).get("name", ""))


def selected(names: Iterable[str], slices: Iterable[Json]) -> list[Json]:
    """`slices` without the endpoints whose pod is not among `names`."""
    wanted = set(names)

    def kept(each: Json) -> list[Json]:
        return [end for end in each.get("endpoints") or [] if pod_of(end) in wanted]

    return [{**each, "endpoints": kept(each)} for each in slices]


def _notes(pod: Json, prefix: str) -> dict[str, str]:
    meta = pod.get("metadata") or {}
    both = (meta.get("labels") or {}) | (meta.get("annotations") or {})
    return {k.removeprefix(prefix): str(v) for k, v in both.items() if k.startswith(prefix)}


def _port(ports: Iterable[Json], name: str) -> int | None:
    for port in ports:
        if isinstance(port.get("port"), int) and name in ("", port.get("name")):
            return int(port["port"])
    return None


def _entry(ip: str, port: int, name: str, notes: Mapping[str, str]) -> dict[str, Any]:
    host = _host(ip)
    url = f"{notes.get('scheme', 'http')}://{host}:{notes.get('port', port)}"
    entry: dict[str, Any] = {"url": url, "id": name or f"{host}:{port}"}
    entry |= {key: notes[note] for note, key in _PLAIN.items() if note in notes}
    entry |= {key: f"tcp://{host}:{notes[note]}" for note, key in _PORTS.items() if note in notes}
    return entry


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
