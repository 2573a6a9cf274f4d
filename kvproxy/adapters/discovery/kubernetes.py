"""Replicas of a Kubernetes Service: its EndpointSlices, and what annotations of its pods add."""

import asyncio
import logging
from pathlib import Path

from kubernetes_asyncio import client, config

from kvproxy.adapters.discovery.reflector import Reflector
from kvproxy.core.discovered import Entries, Found, Json, from_slices, selected

log = logging.getLogger("kvproxy.discovery")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class KubernetesSource:
    """`service` is name or namespace/name; `selector` of labels narrows its pods. Without `api_url`
    the pod's own account or a kubeconfig says where the API is."""

    def __init__(
        self,
        service: str,
        *,
        port_name: str = "",
        selector: str = "",
        annotations: str = "kvproxy.dev/",
        api_url: str = "",
    ) -> None:
        namespace, _, self._service = service.rpartition("/")
        self._namespace = namespace
        self._port_name = port_name
        self._selector = selector
        self._annotations = annotations
        self._api_url = api_url
        self._known: Entries | None = None
        self.reflectors: list[Reflector] = []

    async def run(self, found: Found) -> None:
        settings = client.Configuration()
        if self._api_url:
            settings.host = self._api_url
        else:
            await _configure(settings)
        namespace = self._namespace or _own_namespace()
        async with client.ApiClient(settings) as api:

            def changed() -> None:
                self._tell(found)

            owned = {"namespace": namespace}
            of_service = f"kubernetes.io/service-name={self._service}"
            discovery, core = client.DiscoveryV1Api(api), client.CoreV1Api(api)
            self.reflectors = [
                Reflector(
                    api,
                    discovery.list_namespaced_endpoint_slice,
                    owned | {"label_selector": of_service},
                    changed,
                ),
                Reflector(
                    api,
                    core.list_namespaced_pod,
                    owned | ({"label_selector": self._selector} if self._selector else {}),
                    changed,
                ),
            ]
            await asyncio.gather(*(each.run() for each in self.reflectors))

    def _tell(self, found: Found) -> None:
        slices, pods = self.reflectors
        if not slices.synced or not pods.synced:
            return
        listed: list[Json] = list(slices.objects.values())
        if self._selector:
            listed = selected(pods.objects, listed)
        entries = from_slices(listed, pods.objects, self._port_name, self._annotations)
        if entries != self._known:
            self._known = entries
            found(entries)


async def _configure(settings: client.Configuration) -> None:
    try:
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await config.load_kube_config(client_configuration=settings)


def _own_namespace() -> str:
    return _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.exists() else "default"
