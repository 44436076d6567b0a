"""All checks; the last line says how many."""

import sys

from checks import commands, dockerfile, documents, monitoring, refusals, report, schemas, security

for part in (schemas, security, refusals, documents, monitoring, dockerfile, commands):
    before = report.passed, len(report.failures)
    part.run()
    print(f"{part.__name__.split('.')[-1]:<12} {report.passed - before[0]:>5} passed, {len(report.failures) - before[1]} failed")
report.cannot_check("that the chart installs: there is no Kubernetes cluster here")
report.cannot_check("how the dashboard looks: there is no Grafana here")
sys.exit(report.finish())
