"""That the Dockerfile fetches by digest, and that `make base-images` writes the right ones."""

import contextlib
import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from .paths import CRANE, ROOT
from .report import cannot_check, check, none, same

SCRIPT = ROOT / "supply-chain" / "base-images.sh"
PINNED = re.compile(r"[^\s@]+:[^\s@]+@sha256:[0-9a-f]{64}")
# What the vault's image is built for.
PLATFORMS = {"linux/amd64", "linux/arm64"}


def run() -> None:
    text = (ROOT / "Dockerfile").read_text()
    check("no frontend is fetched: BuildKit's own reads the Dockerfile", not re.search(r"^#\s*syntax\s*=", text, flags=re.I | re.M))
    images = base_images(text)
    check("the Dockerfile has base images", images)
    none("base images are pinned by digest", [image for image in images if not PINNED.fullmatch(image)])
    for image in images:
        found, detail = ask(image)
        if found is None:
            cannot_check(f"that {image} is what its registry has: {detail}")
        else:
            check(f"{image} is in its registry, for each platform", found, detail)
    with registry() as address, tempfile.TemporaryDirectory() as folder:
        rewriting(address, Path(folder))


def base_images(text: str) -> list[str]:
    """What is fetched; the other stages start from one of these."""
    froms = re.findall(r"^FROM\s+(\S+)(?:\s+AS\s+(\S+))?", text, flags=re.I | re.M)
    stages = {stage for _, stage in froms}
    return [image for image, _ in froms if image not in stages]


def ask(image: str) -> tuple[bool | None, str]:
    """Whether a registry has the image for each platform; None when it cannot be asked."""
    try:
        asked = subprocess.run([CRANE, "manifest", image], capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return None, "the registry does not answer"
    if asked.returncode == 0:
        entries = [entry.get("platform", {}) for entry in json.loads(asked.stdout).get("manifests", [])]
        missing = PLATFORMS - {f"{platform.get('os')}/{platform.get('architecture')}" for platform in entries}
        return not missing, f"it lacks {sorted(missing)}"
    last = asked.stderr.strip().splitlines()[-1]
    absent = re.search(r"(MANIFEST|NAME)_UNKNOWN|status code 404", last)
    return (False, last) if absent else (None, last.rsplit(": ", 1)[-1])


@contextlib.contextmanager
def registry():
    """A registry in memory, on loopback."""
    with subprocess.Popen([CRANE, "registry", "serve", "--address", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True) as serving:
        try:
            port = re.search(r"serving on port (\d+)", serving.stderr.readline())[1]
            yield f"127.0.0.1:{port}"
        finally:
            serving.terminate()


def crane(*arguments: str) -> str:
    return subprocess.run([CRANE, *arguments], capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def push(image: str, content: str, platforms: set[str], folder: Path) -> str:
    """An image for these platforms; the digest of its index, as computed here."""
    layer, file = folder / "layer.tar", folder / "content"
    file.write_text(content)
    with tarfile.open(layer, "w") as archive:
        archive.add(file, "content")
    base = crane("append", "--new_layer", str(layer), "--new_tag", f"{image}-base")
    manifests = []
    for platform in sorted(platforms):
        manifests += ["--manifest", crane("mutate", base, "--set-platform", platform, "--tag", f"{image}-{platform.split('/')[1]}")]
    crane("index", "append", *manifests, "--tag", image)
    address, path = image.split("/", 1)
    name, tag = path.rsplit(":", 1)
    with urllib.request.urlopen(f"http://{address}/v2/{name}/manifests/{tag}", timeout=60) as answer:
        return f"sha256:{hashlib.sha256(answer.read()).hexdigest()}"


def rewriting(address: str, folder: Path) -> None:
    builder, base = f"{address}/library/rust:1.95-slim", f"{address}/cc:nonroot"
    old, final = push(builder, "a", PLATFORMS, folder), push(base, "b", PLATFORMS, folder)
    file = folder / "Dockerfile"
    template = f"# Not FROM {builder}\nFROM {builder}%s AS chef\nFROM chef AS builder\nRUN true\n\nFROM {base}%s\nUSER 1\n"

    def pin() -> subprocess.CompletedProcess:
        return subprocess.run([SCRIPT, file], capture_output=True, text=True, timeout=300, check=False)

    file.write_text(template % ("", f"@sha256:{'0' * 64}"))
    pinned = pin()
    check("base images can be pinned", pinned.returncode == 0, pinned.stderr)
    same("digests are added and replaced, and nothing else", file.read_text(), template % (f"@{old}", f"@{final}"))
    new = push(builder, "c", PLATFORMS, folder)
    check("a tag can move", new != old)
    pin()
    same("the digest follows its tag", file.read_text(), template % (f"@{new}", f"@{final}"))
    before = file.read_text() + f"FROM {address}/nothing:1\n"
    file.write_text(before)
    refused = pin()
    check("a base image that is not there is an error", refused.returncode != 0, refused.stdout)
    same("then nothing is rewritten", file.read_text(), before)

    one = push(f"{address}/one:1", "d", {"linux/amd64"}, folder)
    same("an image that is there is found", ask(f"{builder}@{old}")[0], True)
    same("an image that lacks a platform is found out", ask(f"{address}/one:1@{one}"), (False, "it lacks ['linux/arm64']"))
    same("a digest that is not there is found out", ask(f"{builder}@sha256:{'0' * 64}")[0], False)
    # Nothing listens on port 1.
    same("a registry that is away says nothing of its images", ask(f"127.0.0.1:1/rust:1@{old}")[0], None)
