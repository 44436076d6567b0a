"""That the binary knows the command lines and reads the settings that the chart makes. `cargo test` builds it."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from .paths import CHART, ROOT
from .rendering import of_kind, pods, render
from .report import cannot_check, check, same
from .schemas import renderings

BINARY = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "grantex-vault"


def run() -> None:
    if os.environ.get("CI"):
        check("the binary is built before the chart is checked", BINARY.exists(), BINARY)
    if not BINARY.exists():
        cannot_check("that the binary knows the chart's commands and settings: it is not built; `make test` builds it first")
        return
    commands()
    for title, args in renderings().items():
        configuration(title, render(*args))


def vault(*args: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([BINARY, *args], env={"PATH": os.environ["PATH"], **environment},
                          capture_output=True, text=True, check=False, timeout=60)


def commands() -> None:
    every = pods(render()) + pods(render("--values", str(CHART / "ci" / "operators.yaml")))
    for item, _, spec in every:
        for container in spec["containers"]:
            # A name that no resolver knows: the command must take it, and find nobody.
            args = [arg.replace(".svc:", ".svc.invalid:") for arg in container["args"]]
            done = vault(*args, *(["--help"] if len(args) == 1 else []))
            # clap exits with 2 when it does not understand its arguments.
            check(f"the binary understands the {item['kind']}'s {' '.join(args)}", done.returncode in (0, 1), done.stderr)


def configuration(title: str, resources) -> None:
    """All faults of a configuration are reported at once: with a wrong database URL, that must be the only one."""
    (config,) = [item for item in of_kind(resources, "ConfigMap", "server") if "RUST_LOG" in item["data"]]
    (deployment,) = of_kind(resources, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]} | config["data"]
    # As a Secret often has it: with a newline at its end.
    in_secret = {
        "DATABASE_URL_FILE": "nonsense\n",
        "GRANTEX_VAULT_MASTER_KEY_FILE": "aws-kms:alias/vault\n",
        "GRANTEX_VAULT_ISSUER_FILE": "https://issuer.example.com\n",
    }
    with tempfile.TemporaryDirectory() as mounted:
        for name in in_secret.keys() & environment.keys():
            environment[name] = str(Path(mounted) / name)
            Path(environment[name]).write_text(in_secret[name])
        done = vault("serve", **environment)
    same(f"{title}: the binary does not start with a wrong database URL", done.returncode, 1)
    # The first name on a line is what the line complains of. Files are in the pod only.
    lines = [line for line in (done.stderr + done.stdout).splitlines() if "No such file" not in line]
    blamed = [found.group(1) for line in lines if (found := re.match(r"\W*((?:GRANTEX_VAULT|DATABASE|OTEL|RUST|AWS)_[A-Z_]+)", line))]
    check(f"{title}: the binary reads every other setting", set(blamed) == {"DATABASE_URL"}, done.stderr + done.stdout)
