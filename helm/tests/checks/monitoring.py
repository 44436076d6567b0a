"""That dashboard and alerts name metrics that exist, work in Prometheus, and are explained in the runbook."""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import yaml

from .paths import CHART, DASHBOARD, PROMTOOL, ROOT, RULES, RUNBOOK, TESTS
from .rendering import of_kind, render
from .report import check, none, same

# Of Prometheus itself, and of kube-state-metrics.
FOREIGN = {"up", "kube_deployment_status_replicas_available", "kube_deployment_spec_replicas"}
KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
VARIABLES = {"$__rate_interval": "5m", "$__range": "6h", "$__interval": "1m", "$namespace": ".*", "$job": ".*"}
ROWS = ["Is it up?", "How fast is it?", "Who is refused, and why?", "Is the KMS healthy?", "Is audit keeping up?"]
SECTION = ("Means", "Users see", "Look", "Do")


def run() -> None:
    rules = yaml.safe_load(RULES.read_text())
    every = [rule for group in rules["groups"] for rule in group["rules"]]
    alerts = {rule["alert"]: rule for rule in every if "alert" in rule}
    dashboard = json.loads(DASHBOARD.read_text())
    metrics(every, dashboard)
    label_values(every, dashboard)
    dashboard_shape(dashboard)
    dashboard_queries(dashboard)
    alert_shape(alerts)
    runbook(alerts)
    promtool("check", "rules", str(RULES))
    cases(set(alerts))
    rendered(alerts)


def named(query: str) -> set[str]:
    """The metrics that a query names: what is left without strings, selectors, ranges, label lists and functions."""
    query = re.sub(r'"(?:\\.|[^"\\])*"', '""', query)
    query = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", query)
    query = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", query)
    found = re.findall(r"(?<![\w:.$])([A-Za-z_:][\w:]*)\b(?!\s*\()", query)
    return {name for name in found if name.lower() not in KEYWORDS}


def existing() -> tuple[str, set[str]]:
    """The metrics that the vault has, and where that was read."""
    served = os.environ.get("METRICS_FILE")
    if served:
        text = Path(served).read_text()
        return served, set(re.findall(r"^(?:# TYPE )?(grantex_vault_\w+)", text, re.M))
    files = [path for path in [ROOT / "src" / "metrics.rs", *sorted((ROOT / "src" / "metrics").glob("*.rs"))] if path.exists()]
    names = {name for path in files for name in re.findall(r'"(grantex_vault_\w+)"', path.read_text())}
    return "src/metrics.rs", names


def metrics(rules, dashboard) -> None:
    same("a query's metrics are found", named('sum by (a) (rate(x_total{b="c_d"}[5m])) / on (a) y:z > 1e3 * 14.4 or up offset 5m'), {"x_total", "y:z", "up"})
    where, names = existing()
    check(f"the vault's metrics are named in {where}", names)
    recorded = {rule["record"] for rule in rules if "record" in rule}
    known = names | {f"{name}_{suffix}" for name in names for suffix in ("bucket", "sum", "count")} | FOREIGN | recorded
    for rule in rules:
        title = rule.get("alert") or rule["record"]
        none(f"{title} names metrics that exist ({where})", named(rule["expr"]) - known)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found = named(substituted(target["expr"]))
            check(f"panel {panel['title']} names a metric", found)
            none(f"panel {panel['title']} names metrics that exist ({where})", found - known)
            none(f"panel {panel['title']} needs no recording rule", found & recorded)
    for variable in dashboard["templating"]["list"][1:]:
        series = re.search(r"label_values\((\w+)", variable["query"]["query"]).group(1)
        check(f"variable {variable['name']} asks a metric that exists", series in known)


def label_values(rules, dashboard) -> None:
    """A value that no label has makes a query that is silent for ever."""
    queries = [rule["expr"] for rule in rules] + [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]
    literals = {literal for path in (ROOT / "src").rglob("*.rs") for literal in re.findall(r'"([a-z_]+)"', path.read_text())}
    used = set()
    for query in queries:
        for values in re.findall(r'\b(?:outcome|verb|transport|operation|cache|limit)=~?"([^"]*)"', query):
            used.update(values.split("|"))
    check("queries select by the values of labels", len(used) > 10)
    none("every value of a label that a query selects by is one of the source", sorted(used - literals))


def substituted(query: str) -> str:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query


def dashboard_shape(dashboard) -> None:
    panels = dashboard["panels"]
    same("the dashboard's rows are its questions", [panel["title"] for panel in panels if panel["type"] == "row"], ROWS)
    ids = [panel["id"] for panel in panels]
    same("no panel has another's id", len(set(ids)), len(ids))
    same("the dashboard's variables", [v["name"] for v in dashboard["templating"]["list"]], ["datasource", "namespace", "job"])
    for panel in panels:
        if panel["type"] == "row":
            continue
        title = f"panel {panel['title']}"
        check(f"{title} has a description", len(panel["description"]) > 20)
        check(f"{title} has a unit", panel["fieldConfig"]["defaults"].get("unit"))
        same(f"{title} asks the chosen data source", panel["datasource"]["uid"], "${datasource}")
        for target in panel["targets"]:
            selectors = re.findall(r"\w+\{([^}]*)\}", target["expr"])
            check(f"{title} selects namespace and job everywhere",
                  selectors and all('namespace=~"$namespace", job=~"$job"' in selector for selector in selectors))
    places = [panel["gridPos"] for panel in panels]
    overlapping = [
        (panels[i]["title"], panels[j]["title"])
        for i, a in enumerate(places)
        for j, b in enumerate(places[:i])
        if a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    ]
    none("no panel lies on another", overlapping)
    none("no panel is wider than the page", (p for p in places if p["x"] + p["w"] > 24))


def dashboard_queries(dashboard) -> None:
    """Prometheus' own parser reads every query, as a rule."""
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    rules = [{"record": f"panel:{number}", "expr": substituted(query)} for number, query in enumerate(queries)]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}, file)
        file.flush()
        promtool("check", "rules", file.name)


def promtool(*args: str) -> None:
    done = subprocess.run([PROMTOOL, *args], capture_output=True, text=True, check=False)
    shown = " ".join(arg.replace(str(ROOT) + "/", "") for arg in args)
    check(f"promtool {shown}", done.returncode == 0, done.stdout + done.stderr)


def alert_shape(alerts) -> None:
    for title, rule in alerts.items():
        check(f"{title}: severity", rule["labels"]["severity"] in ("critical", "warning"))
        same(f"{title}: annotations", set(rule["annotations"]), {"summary", "description", "runbook_url"})
        same(f"{title}: where the runbook is", rule["annotations"]["runbook_url"], f"docs/runbook.md#{title.lower()}")
    for objective, budget in (("Availability", 0.001), ("Latency", 0.01)):
        found = []
        for speed in ("BurnsFast", "BurnsSlowly"):
            expression = alerts[f"GrantexVault{objective}{speed}"]["expr"]
            found += re.findall(r"ratio_rate(\w+) > ([\d.]+) \* ([\d.]+)", expression)
        expected = [("1h", "5m", "14.4"), ("6h", "30m", "6"), ("1d", "2h", "3"), ("3d", "6h", "1")]
        same(f"{objective}: windows and burn rates of the SRE workbook", found,
             [(window, rate, str(budget)) for long, short, rate in expected for window in (long, short)])


def runbook(alerts) -> None:
    text = RUNBOOK.read_text()
    sections = dict(re.findall(r"^### (GrantexVault\w+)\n(.*?)(?=^#|\Z)", text, re.M | re.S))
    none("runbook: every alert has a section", set(alerts) - set(sections))
    none("runbook: every section has an alert", set(sections) - set(alerts))
    for title, section in sections.items():
        same(f"runbook: {title} says what it means, what users see, how to look, what to do",
             re.findall(r"^\*\*([^*]+)\.\*\*", section, re.M)[:4], list(SECTION))
    none("runbook: what it refers to is there", set(re.findall(r"GrantexVault\w+", text)) - set(alerts))
    where, names = existing()
    known = names | {f"{name}_{suffix}" for name in names for suffix in ("bucket", "sum", "count")}
    none(f"runbook: its metrics exist ({where})", set(re.findall(r"grantex_vault_[a-z_]+", text)) - known - {"grantex_vault_serving"})


def cases(alerts) -> None:
    files = sorted(TESTS.glob("*_test.yaml"))
    check("there are cases for promtool", files)
    titles = []
    for path in files:
        promtool("test", "rules", str(path))
        titles += [case["name"] for case in yaml.safe_load(path.read_text())["tests"]]
    for alert in alerts:
        check(f"{alert}: a case where it fires", any(title.startswith(f"{alert}: fires") for title in titles))
        check(f"{alert}: a case where it is silent", any(title.startswith(f"{alert}: silent") for title in titles))


def rendered(alerts) -> None:
    """The chart's PrometheusRule and dashboard are these files, with the release's own names."""
    args = ("--set", "prometheusRule.enabled=true", "--set", "dashboard.enabled=true", "--set", "prometheusRule.runbookUrl=https://runbook.example.com/vault",
            "--set", "prometheusRule.disabledAlerts={GrantexVaultShedding}", "--set", "nameOverride=other")
    (rule,) = of_kind(render(*args), "PrometheusRule")
    made = {r["alert"]: r for group in rule["spec"]["groups"] for r in group["rules"] if "alert" in r}
    same("PrometheusRule: the alerts, without the disabled one", set(made), set(alerts) - {"GrantexVaultShedding"})
    none("PrometheusRule: the runbook is where it was said to be",
         (r for r in made.values() if not r["annotations"]["runbook_url"].startswith("https://runbook.example.com/vault#")))
    check("PrometheusRule: the job is the release's", 'job="other"' in made["GrantexVaultAbsent"]["expr"])
    check("PrometheusRule: the Deployment is the release's", 'deployment="demo-other"' in made["GrantexVaultPodsNotReady"]["expr"])
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(rule["spec"], file)
        file.flush()
        promtool("check", "rules", file.name)
    config = next(item for item in of_kind(render(*args), "ConfigMap") if item["metadata"]["name"].endswith("-dashboard"))
    same("ConfigMap: the dashboard is the file", json.loads(config["data"]["grantex-vault.json"]), json.loads(DASHBOARD.read_text()))
    check("ConfigMap: Grafana's sidecar finds it", config["metadata"]["labels"]["grafana_dashboard"] == "1")
