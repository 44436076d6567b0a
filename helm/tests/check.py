"""All checks; the last line says how many."""

import sys
import traceback

from checks import base_images, commands, dockerfile, documents, monitoring, refusals, report, schemas, security

for part in (schemas, security, refusals, documents, monitoring, dockerfile, base_images, commands):
    before = report.passed, len(report.failures)
    try:
        part.run()
    except (Exception, SystemExit):
        # What a check needs is not there: the other parts still say what they find.
        report.check(f"{part.__name__} runs to its end", False, traceback.format_exc())
    print(f"{part.__name__.split('.')[-1]:<12} {report.passed - before[0]:>5} passed, {len(report.failures) - before[1]} failed")
report.cannot_check("that the chart installs: there is no Kubernetes cluster here")
report.cannot_check("how the dashboard looks: there is no Grafana here")
sys.exit(report.finish())
