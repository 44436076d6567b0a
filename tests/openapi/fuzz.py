"""Schemathesis against a vault, by its own document: no 5xx, and no answer that is not documented.

Reads on standard input what `grantex-vault dev --json` prints. What is checked, and what is not and
why, stands in `schemathesis.toml`.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import httpx

HERE = pathlib.Path(__file__).parent
OPERATIONS = 6


def store_the_credential_of_the_examples(instance):
    """So that the examples of an exchange have something to exchange."""
    answer = httpx.post(
        f"{instance['http']}/v1/vault/credentials",
        headers={"Authorization": f"Bearer {instance['apiKey']}"},
        json={
            "principalId": instance["principalId"],
            "service": "github",
            "accessToken": "gho_example",
        },
    )
    assert answer.status_code == 201, answer.text


def run(instance, directory):
    report = pathlib.Path(directory, "report.json")
    command = [
        pathlib.Path(sys.executable).with_name("schemathesis"),
        "--config-file",
        HERE / "schemathesis.toml",
        "run",
        f"{instance['http']}/openapi.json",
        "--no-color",
        "--generation-database",
        "none",
        "--report-json-path",
        report,
    ]
    environment = os.environ | {
        "API_KEY": instance["apiKey"],
        "GRANT_TOKEN": instance["grantToken"],
    }
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return json.loads(report.read_text())


def check_that_it_was_serious(report):
    """It ends well, too, when every request is refused."""
    assert report["complete"], report["stop_reason"]
    assert report["operations"]["tested"] == OPERATIONS, report["operations"]
    rates = report["valid_rates"]
    assert len(rates) == OPERATIONS, rates
    for operation, phases in rates.items():
        accepted = sum(phase["accepted"] for phase in phases.values())
        assert accepted > 0, f"{operation} never succeeded: {phases}"
    warnings = {name: found for name, found in report["warnings"].items() if found}
    assert not warnings, warnings


def main():
    instance = json.load(sys.stdin)
    store_the_credential_of_the_examples(instance)
    with tempfile.TemporaryDirectory() as directory:
        check_that_it_was_serious(run(instance, directory))


main()
