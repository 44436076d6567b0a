"""Runs helm."""

import subprocess
from functools import cache

import yaml

from .paths import CHART, HELM

RELEASE = "demo"
NAMESPACE = "vault"


def helm(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([HELM, *args], capture_output=True, text=True, check=False)


def template(*args: str) -> subprocess.CompletedProcess:
    return helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *args)


@cache
def render(*args: str) -> tuple[dict, ...]:
    """The resources of a rendering that succeeds."""
    done = template(*args)
    if done.returncode:
        raise SystemExit(f"helm template {' '.join(args)}: {done.stderr}")
    return tuple(item for item in yaml.safe_load_all(done.stdout) if item)


def of_kind(resources, kind: str, component: str | None = None) -> list[dict]:
    return [
        item
        for item in resources
        if item["kind"] == kind
        and component in (None, item["metadata"]["labels"]["app.kubernetes.io/component"])
    ]


def name(item: dict) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def annotation(item: dict, key: str) -> str | None:
    return item["metadata"].get("annotations", {}).get(key)


def pods(resources) -> list[tuple[dict, dict, dict]]:
    """Each resource that makes pods, with the labels and the spec of its pods."""
    found = []
    for item in resources:
        if item["kind"] in ("Deployment", "Job"):
            pod = item["spec"]["template"]
            found.append((item, pod["metadata"]["labels"], pod["spec"]))
        elif item["kind"] == "Pod":
            found.append((item, item["metadata"]["labels"], item["spec"]))
    return found
