"""Where everything is."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "grantex-vault"
TESTS = ROOT / "helm" / "tests"
TOOLS = ROOT / ".tools"
HELM = TOOLS / "bin" / "helm"
PROMTOOL = TOOLS / "bin" / "promtool"
CRANE = TOOLS / "bin" / "crane"
HADOLINT = TOOLS / "venv" / "bin" / "hadolint"
RULES = CHART / "files" / "rules.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"
RUNBOOK = ROOT / "docs" / "runbook.md"
EXAMPLES = sorted((CHART / "ci").glob("*.yaml"))
EXPECTED_EXAMPLES = {"minimal", "aws-irsa", "gcp-workload-identity", "mtls-cert-manager", "gateway-api", "operators"}
