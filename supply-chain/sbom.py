#!/usr/bin/env python3
"""Writes the SBOM of the binary, CycloneDX 1.5 as JSON, to target/grantex-vault.cdx.json.

cargo-cyclonedx describes every crate that cargo's resolution names, which is more than is compiled: optional ones too
that no feature asks for. Here only those stay that `cargo tree` finds for the target. What is linked into the binary
has the scope `required`; what only builds it (build scripts, macros) has `excluded`.

The same commit gives the same bytes: the time in it is the commit's, or SOURCE_DATE_EPOCH.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = "grantex-vault"
# Without these it would not be an SBOM of the vault.
EXPECTED = {"aws-lc-rs", "rustls", "tokio", "tokio-postgres", "tonic"}


def run(*command: str, **options) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def crates(target: str, edges: str) -> set[tuple[str, str]]:
    """Name and version of each crate that is compiled, ours apart."""
    tree = run("cargo", "tree", "--locked", "--target", target, "--edges", edges, "--prefix", "none", "--format", "{p}")
    found = {tuple(line.split()[:2]) for line in tree.splitlines()}
    return {(name, version.removeprefix("v")) for name, version in found if name != BINARY}


def describe(target: str) -> dict:
    """What cargo-cyclonedx says; it writes beside Cargo.toml."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct").strip()
    written = ROOT / f"{BINARY}_bin.cdx.json"
    try:
        run(
            ".tools/bin/cargo-cyclonedx", "cyclonedx", "--quiet", "--format", "json", "--spec-version", "1.5",
            "--describe", "binaries", "--target", target, env={**os.environ, "SOURCE_DATE_EPOCH": epoch},
        )
        # Where the source lay is nobody's business, and differs from one machine to the next.
        return json.loads(written.read_text().replace(f"path+file://{ROOT}#", "pkg:cargo/"))
    finally:
        written.unlink(missing_ok=True)


def keep_what_is_compiled(sbom: dict, target: str) -> None:
    compiled, linked = crates(target, "no-dev"), crates(target, "normal,no-proc-macro")
    kept = []
    for component in sbom["components"]:
        crate = component["name"], component["version"]
        if crate in compiled:
            component["scope"] = "required" if crate in linked else "excluded"
            kept.append(component)
    missing = compiled - {(component["name"], component["version"]) for component in kept}
    if missing:
        sys.exit(f"cargo-cyclonedx does not know {sorted(missing)}, which cargo compiles")
    refs = {component["bom-ref"] for component in kept} | {sbom["metadata"]["component"]["bom-ref"]}
    sbom["components"] = kept
    sbom["dependencies"] = [
        {**entry, "dependsOn": [ref for ref in entry["dependsOn"] if ref in refs]} if "dependsOn" in entry else entry
        for entry in sbom["dependencies"]
        if entry["ref"] in refs
    ]


def check(sbom: dict) -> None:
    version = json.loads(run("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"))["packages"][0]["version"]
    subject = sbom["metadata"]["component"]
    if (subject["name"], subject["version"]) != (BINARY, version):
        sys.exit(f"it is about {subject['name']} {subject['version']}, not {BINARY} {version}")
    missing = EXPECTED - {component["name"] for component in sbom["components"] if component["scope"] == "required"}
    if missing:
        sys.exit(f"it lacks {sorted(missing)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the SBOM of the binary.")
    parser.add_argument("--target", default="x86_64-unknown-linux-gnu", help="what the binary is built for")
    parser.add_argument("--output", type=Path, default=ROOT / "target" / f"{BINARY}.cdx.json")
    arguments = parser.parse_args()
    sbom = describe(arguments.target)
    keep_what_is_compiled(sbom, arguments.target)
    check(sbom)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(sbom, indent=2) + "\n")
    linked = sum(component["scope"] == "required" for component in sbom["components"])
    print(f"{arguments.output}: {linked} crates in the binary, {len(sbom['components']) - linked} that only build it")


if __name__ == "__main__":
    main()
