"""That the README lists every value, the schema knows it, and every setting of the vault can be set."""

import json
import re
import tomllib

import yaml

from .paths import CHART, ROOT
from .rendering import of_kind, pods, render, template
from .report import check, none, same
from .schemas import renderings

# Settings that are not the chart's to set: `dev` alone has them, or the Job stands in for them.
NOT_FOR_THE_CHART = {
    "GRANTEX_VAULT_PG_BIN",
    "GRANTEX_VAULT_MIGRATE",
    "GRANTEX_VAULT_MIGRATE_DATABASE_URL",
    "DATABASE_URL",
}
# Where the chart deliberately has another default than the binary.
OTHER_DEFAULT = {"GRANTEX_VAULT_ADMIN_ADDR", "GRANTEX_VAULT_DRAIN_DELAY", "GRANTEX_VAULT_LOG_FORMAT"}


def run() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    readme(values)
    schema(values)
    settings()
    chart()
    links()


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def at(values, path):
    for key in path:
        values = values[key]
    return values


def readme(values) -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `(.*?)` \| (.+) \|$", (CHART / "README.md").read_text().split("## Values")[1], re.M)
    listed = {}
    for path, default, meaning in rows:
        check(f"README: {path} is listed once and explained", path not in listed and meaning.strip())
        listed[tuple(path.split("."))] = default
    for path, default in listed.items():
        shown = ".".join(path)
        try:
            value = at(values, path)
        except (KeyError, TypeError):
            check(f"README: {shown} is a value", False, "values.yaml has none of this name")
            continue
        plain = value if isinstance(value, str) and value else json.dumps(value, separators=(",", ":"))
        same(f"README: the default of {shown}", default.replace("\\|", "|"), plain)
    covered = lambda path: any(path[:length] in listed for length in range(1, len(path) + 1))
    none("README: no value is missing", (".".join(path) for path, _ in leaves(values) if not covered(path)))


def schema(values) -> None:
    document = json.loads((CHART / "values.schema.json").read_text())

    def walk(values, schema, path):
        known = schema.get("properties")
        if known is None:
            return
        same(f"schema: {path or 'the top'} admits nothing else", schema.get("additionalProperties"), False)
        wanted = set(known) - ({"global"} if not path else set())
        if isinstance(values, dict) and path not in ("resources", "migration.resources"):
            same(f"schema: {path or 'the top'} has the values of values.yaml", wanted, set(values))
            for key, inner in values.items():
                walk(inner, known.get(key, {}), f"{path}.{key}".lstrip("."))

    walk(values, document, "")


def settings() -> None:
    table = dict(re.findall(r"^\| `((?:GRANTEX_VAULT_|OTEL_|RUST_)?[A-Z_]+)` \| (`[^`]+`|—) \|", (ROOT / "README.md").read_text(), re.M))
    source = (ROOT / "src" / "config" / "settings.rs").read_text()
    names = set(re.findall(r'"((?:GRANTEX_VAULT_|OTEL_EXPORTER_|RUST_)[A-Z_]+|DATABASE_URL)"', source))
    made = {}
    for args in renderings().values():
        resources = render(*args)
        for config in of_kind(resources, "ConfigMap"):
            made.update({key: value for key, value in config["data"].items() if key.isupper()})
        for _, _, spec in pods(resources):
            for container in spec["containers"]:
                made.update({entry["name"]: None for entry in container.get("env", [])})
    ours = {key for key in made if key.startswith("GRANTEX_VAULT_")}
    known = {name for name in names} | {f"{name}_FILE" for name in names}
    none("every setting that the chart makes is one of the vault (src/config/settings.rs)", sorted(ours - known))
    for setting in sorted(names - set(made) - NOT_FOR_THE_CHART):
        done = template("--set-string", f"extraSettings.{setting}=x")
        check(f"{setting} can be set by extraSettings", done.returncode == 0, done.stderr)
    (config,) = of_kind(render(), "ConfigMap", "server")
    for key, value in config["data"].items():
        if key in table and key not in OTHER_DEFAULT:
            same(f"{key} has the vault's own default", value, table[key].strip("`"))


def chart() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    same("the chart's appVersion is the crate's version", about["appVersion"], cargo["version"])


def links() -> None:
    for path in (CHART / "README.md", ROOT / "docs" / "runbook.md", ROOT / "docs" / "network.md", ROOT / "helm" / "tests" / "schemas" / "README.md"):
        targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
        none(f"{path.relative_to(ROOT)}: every link leads somewhere",
             (target for target in targets if "://" not in target and not (path.parent / target).exists()))
