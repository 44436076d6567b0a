"""That the Dockerfile is one, and makes the image that the chart expects."""

import json
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from dockerfile_parse import DockerfileParser

from .paths import HADOLINT, ROOT
from .report import cannot_check, check, none, same

LABELS = {"title", "description", "source", "documentation", "licenses", "version", "revision"}


def run() -> None:
    path = ROOT / "Dockerfile"
    linted = subprocess.run([HADOLINT, "--failure-threshold", "style", str(path)], capture_output=True, text=True, check=False)
    check("hadolint finds nothing", linted.returncode == 0, linted.stdout + linted.stderr)
    with tempfile.TemporaryDirectory() as folder:
        parser = DockerfileParser(path=folder)
        parser.content = path.read_text()
        steps = [(step["instruction"], step["value"]) for step in parser.structure if step["instruction"] != "COMMENT"]
        labels = parser.labels
    starts = [number for number, (instruction, _) in enumerate(steps) if instruction == "FROM"]
    stages = [steps[start:end] for start, end in zip(starts, [*starts[1:], None])]
    same("the stages", [re.sub(r".* AS ", "", stage[0][1], flags=re.I) for stage in stages[:-1]], ["chef", "planner", "builder"])
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    check("it builds with the crate's Rust", stages[0][0][1].startswith(f"rust:{package['rust-version']}-slim-"), stages[0][0][1])
    builder(dict(enumerate(stages))[2])
    final(stages[-1], labels)
    same("builder and image have one Debian, and so one glibc", (stages[0][0][1].split("@")[0].split("-")[-1], "debian12" in stages[-1][0][1]), ("bookworm", True))
    context(package)
    cannot_check("that the image builds and runs: there is no Docker engine here")


def builder(stage) -> None:
    order = [value for instruction, value in stage if instruction in ("COPY", "RUN")]
    same("dependencies are built before the source is there", [bool(re.search(pattern, step)) for pattern, step in zip(
        (r"recipe\.json", r"cargo chef cook --release --locked", r"^\. \.$", r"cargo build --release --locked"), order)], [True] * 4)


def final(stage, labels) -> None:
    values = {}
    for instruction, value in stage:
        values.setdefault(instruction, []).append(value)
    check("the base has no shell", values["FROM"][0].startswith("gcr.io/distroless/"))
    same("nothing is run in the image", values.get("RUN"), None)
    same("the user is not root, by number", values["USER"], ["65532:65532"])
    same("the ports", values["EXPOSE"], ["50051 8080 9090"])
    same("it is the binary", json.loads(values["ENTRYPOINT"][0]), ["/usr/local/bin/grantex-vault"])
    same("it serves", json.loads(values["CMD"][0]), ["serve"])
    probe = re.search(r"CMD (\[.*\])$", values["HEALTHCHECK"][0])
    check("the health check needs no shell", probe)
    same("the health check is the binary", json.loads(probe.group(1)), ["/usr/local/bin/grantex-vault", "health"])
    same("only the binary is copied", values["COPY"], ["--from=builder /src/target/release/grantex-vault /usr/local/bin/grantex-vault"])
    found = {key.removeprefix("org.opencontainers.image.") for key in labels if key.startswith("org.opencontainers.image.")}
    none("it has the OCI labels", LABELS - found)


def context(package) -> None:
    """What .dockerignore lets in is all that cargo reads."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    if not same(".dockerignore leaves everything out first", lines[0], "*"):
        return
    check(".dockerignore then only lets in", all(line.startswith("!") for line in lines[1:]))
    with tempfile.TemporaryDirectory() as folder:
        for line in lines[1:]:
            source, target = ROOT / line[1:], Path(folder) / line[1:]
            if not check(f".dockerignore: {line[1:]} is there", source.exists()):
                continue
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copy(source, target)
        cargo = subprocess.run(["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"], cwd=folder, capture_output=True, text=True, check=False)
        if check("cargo reads the image's sources", cargo.returncode == 0, cargo.stderr):
            targets = json.loads(cargo.stdout)["packages"][0]["targets"]
            check("the binary is among them", any(t["name"] == package["name"] and "bin" in t["kind"] for t in targets))
        missing = []
        for source in [*Path(folder).glob("*.rs"), *Path(folder).glob("src/**/*.rs")]:
            for included in re.findall(r'include(?:_str|_bytes)?!\(\s*"([^"]+)"', source.read_text()):
                if not (source.parent / included).resolve().exists():
                    missing.append(f"{source.relative_to(folder)} includes {included}")
        none("what the source includes is let in", missing)
