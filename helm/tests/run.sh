#!/usr/bin/env bash
# Checks the chart, the Dockerfile, the dashboard, the alerts and the runbook. METRICS_FILE may name the text of a
# served /metrics; else the metrics' names are read from the source.
set -euo pipefail
cd "$(dirname "$0")/../.."
# Nothing is left in the tree.
export PYTHONDONTWRITEBYTECODE=1
helm/tests/tools.sh
exec .tools/venv/bin/python helm/tests/check.py
