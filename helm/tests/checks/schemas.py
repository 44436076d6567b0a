"""That the chart renders, and that what it renders is what Kubernetes takes."""

import json
import re

import jsonschema
import kubernetes_validate
import yaml

from .paths import CHART, EXAMPLES, EXPECTED_EXAMPLES, TESTS
from .rendering import helm, name, render, template
from .report import check, none, same

# The oldest version that Chart.yaml admits, and the newest with schemas.
KUBERNETES = ("1.27.0", "1.37.0")

# What neither the defaults nor the examples show.
VARIANTS = {
    "existing certificate": (
        "--set", "tls.enabled=true", "--set", "tls.existingSecret=vault-tls",
        "--set", "tls.clientCA.existingSecret=clients-ca",
    ),
    "operators by a token": (
        "--set", "operators.token.existingSecret=vault-operators", "--set", "operators.token.key=admin",
        "--set", "operators.tls.existingSecret=vault-operators-tls",
        "--set", "serviceMonitor.enabled=true", "--set", "networkPolicy.ingress.monitoringFrom=null",
        "--set-json", 'networkPolicy.ingress.operatorsFrom=[{"podSelector":{"matchLabels":{"app":"console"}}}]',
    ),
    "operators by certificates": (
        "--set", "tls.enabled=true", "--set", "tls.existingSecret=vault-tls", "--set", "tls.clientCA.existingSecret=clients-ca",
        "--set", "operators.tls.existingSecret=vault-operators-tls", "--set", "operators.tls.clientCA.existingSecret=operators-ca",
        "--set", "operators.tls.clientNames={grace.example.com}",
        "--set", "admin.tls.existingSecret=vault-admin-tls",
        "--set", "serviceMonitor.enabled=true",
    ),
    "three certificates by cert-manager": (
        "--set", "tls.enabled=true", "--set", "tls.certManager.enabled=true", "--set", "tls.certManager.issuerRef.name=public",
        "--set", "operators.tls.certManager.enabled=true", "--set", "operators.tls.certManager.issuerRef.name=internal",
        "--set", "operators.tls.certManager.dnsNames={vault-operators.example.com}", "--set", "operators.tls.clientCA.existingConfigMap=operators-ca",
        "--set", "operators.tls.clientNames={grace.example.com}",
        "--set", "admin.tls.certManager.enabled=true", "--set", "admin.tls.certManager.issuerRef.name=internal",
    ),
    "nothing optional": (
        "--set", "networkPolicy.enabled=false", "--set", "tests.enabled=false", "--set", "migration.enabled=false",
        "--set", "podDisruptionBudget.enabled=false", "--set", "serviceAccount.create=false",
        "--set-json", "topologySpreadConstraints=[]", "--set-json", "runAsUser=null",
    ),
    "placement": (
        "--set-json", 'tolerations=[{"key":"vault","operator":"Exists"}]', "--set-json", 'imagePullSecrets=["registry"]',
        "--set-json", 'affinity={"podAntiAffinity":{}}', "--set", "podLabels.team=identity",
        "--set", "commonLabels.stage=test", "--set-string", "podAnnotations.note=1",
        "--set-json", 'extraVolumes=[{"name":"extra","emptyDir":{}}]',
        "--set-json", 'extraVolumeMounts=[{"name":"extra","mountPath":"/extra"}]',
    ),
    "budget by the fewest": ("--set", "podDisruptionBudget.minAvailable=1", "--set-json", "podDisruptionBudget.maxUnavailable=null"),
    "beside an auth service": (
        "--set", "authority=grantex", "--set", "grants.scopeMode=compatible", "--set", "grants.maxDelegationDepth=3",
        "--set", "grants.maxTokenLifetime=1h",
    ),
    "one role": ("--set", "singleRole=true"),
    "key set elsewhere": ("--set", "jwks.url=https://keys.example.com/jwks.json"),
    "EKS Pod Identity": ("--set", "platform=eks", "--set", "masterKey=aws-kms:alias/vault"),
    "OpenShift": ("--set", "platform=openshift"),
    "IPv6": ("--set", "bindAddress=[::]"),
}


def renderings() -> dict[str, tuple[str, ...]]:
    """Every way in which the chart is rendered for the checks."""
    examples = {f"ci/{path.name}": ("--values", str(path)) for path in EXAMPLES}
    return {"defaults": (), **examples, **VARIANTS}


def run() -> None:
    same("the example values are those of the README", {path.stem for path in EXAMPLES}, EXPECTED_EXAMPLES)
    seen = set()
    for title, args in renderings().items():
        linted = helm("lint", "--strict", str(CHART), *args)
        check(f"helm lint --strict: {title}", linted.returncode == 0, linted.stdout + linted.stderr)
        done = template(*args)
        if not check(f"helm template: {title}", done.returncode == 0, done.stderr):
            continue
        same(f"rendering is the same again: {title}", template(*args).stdout, done.stdout)
        seen.update(re.findall(r"^# Source: grantex-vault/templates/(\S+)$", done.stdout, re.M))
        resources = render(*args)
        names = [name(item) for item in resources]
        same(f"no resource is there twice: {title}", sorted(set(names)), sorted(names))
        for item in resources:
            valid(title, item)
    templates = {
        str(path.relative_to(CHART / "templates"))
        for path in (CHART / "templates").rglob("*.yaml")
        if path.name != "validate.yaml"
    }
    none("every template was rendered at least once", templates - seen)
    strict_schemas()


def valid(title: str, item: dict) -> None:
    group = item["apiVersion"].split("/")[0]
    if "." in group and not group.endswith(".k8s.io") or group == "gateway.networking.k8s.io":
        path = TESTS / "schemas" / f"{item['apiVersion'].replace('/', '_')}_{item['kind']}.json"
        if not check(f"there is a schema of {item['apiVersion']} {item['kind']}", path.exists(), path):
            return
        errors = jsonschema.Draft202012Validator(json.loads(path.read_text())).iter_errors(item)
        none(f"{title}: {name(item)} is valid", (f"{error.json_path}: {error.message[:300]}" for error in errors))
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(item, version, strict=True)
            problem = None
        except Exception as error:  # The package has an exception for each way to fail.
            problem = getattr(error, "message", None) or repr(error)
        check(f"{title}: {name(item)} is valid in Kubernetes {version}", problem is None, problem)


def strict_schemas() -> None:
    """A check that cannot fail proves nothing: misspelled fields must be found."""
    example = render("--values", str(CHART / "ci" / "aws-irsa.yaml"))
    monitor = yaml.safe_load(yaml.safe_dump(next(item for item in example if item["kind"] == "ServiceMonitor")))
    monitor["spec"]["endpoints"][0]["intervall"] = "30s"
    schema = json.loads((TESTS / "schemas" / "monitoring.coreos.com_v1_ServiceMonitor.json").read_text())
    check("a misspelled field of a custom resource is found", not jsonschema.Draft202012Validator(schema).is_valid(monitor))
    deployment = yaml.safe_load(yaml.safe_dump(next(item for item in example if item["kind"] == "Deployment")))
    deployment["spec"]["replica"] = 2
    try:
        kubernetes_validate.validate(deployment, KUBERNETES[-1], strict=True)
        found = False
    except kubernetes_validate.ValidationError:
        found = True
    check("a misspelled field of a built-in kind is found", found)
