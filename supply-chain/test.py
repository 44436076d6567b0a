#!/usr/bin/env python3
"""That the lint refuses what it should, says aloud what it could not check, and that the SBOM is of what is compiled."""

import json
import os
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
DATABASE = "https://github.com/RustSec/advisory-db"
NOT_CHECKED = "ADVISORIES WERE NOT CHECKED"
ADVISORY = """```toml
[advisory]
id = "RUSTSEC-2026-9999"
package = "{package}"
date = "2026-01-01"
url = "https://example.com/advisory"
{more}

[versions]
patched = []
```

# It leaks

Whatever it is told.
"""


def commit(folder):
    git = ["git", "-C", folder, "-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch", "main"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "As it is"], check=True)


class Rules(unittest.TestCase):
    """deny.toml on a copy of the crate with another dependency."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.crate = self.folder / "vault"
        self.crate.mkdir()
        for name in ("src", "benches"):
            shutil.copytree(ROOT / name, self.crate / name)
        for name in ("Cargo.toml", "Cargo.lock", "build.rs"):
            shutil.copy(ROOT / name, self.crate)

    def depend(self, old, new):
        manifest = self.crate / "Cargo.toml"
        text = manifest.read_text()
        self.assertIn(old, text)
        manifest.write_text(text.replace(old, new, 1))

    def check(self):
        command = [ROOT / ".tools/cargo-deny/bin/cargo-deny", "--manifest-path", self.crate / "Cargo.toml", "--config", ROOT / "deny.toml"]
        command += ["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def test_the_crate_as_it_is_passes(self):
        checked = self.check()
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_a_second_provider_of_cryptography_fails(self):
        self.depend('"aws_lc_rs", "std"', '"aws_lc_rs", "ring", "std"')
        checked = self.check()
        self.assertIn("bans FAILED", checked.stdout + checked.stderr)
        self.assertIn("crate 'ring = 0.17", checked.stderr)

    def test_a_crate_from_git_under_another_licence_fails(self):
        source = self.folder / "other"
        (source / "src").mkdir(parents=True)
        (source / "src/lib.rs").touch()
        (source / "Cargo.toml").write_text('[package]\nname = "other"\nversion = "1.0.0"\nlicense = "GPL-3.0-only"\n')
        commit(source)
        self.depend("[dependencies]\n", f'[dependencies]\nother = {{ version = "1", git = "file://{source}" }}\n')
        checked = self.check()
        self.assertIn("licenses FAILED, sources FAILED", checked.stdout + checked.stderr)


class Advisories(unittest.TestCase):
    """check-dependencies.sh with a database of its own: git is told to find it where the test put it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.database, self.clones = Path(folder.name, "database"), Path(folder.name, "clones")

    def make_database(self, package, more=""):
        advisories = self.database / "crates" / package
        advisories.mkdir(parents=True)
        (advisories / "RUSTSEC-2026-9999.md").write_text(ADVISORY.format(package=package, more=more))
        commit(self.database)

    def check(self):
        redirect = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{self.database}.insteadOf", "GIT_CONFIG_VALUE_0": DATABASE}
        environment = {**os.environ, **redirect, "GRANTEX_ADVISORY_DBS": str(self.clones)}
        return subprocess.run([FOLDER / "check-dependencies.sh"], env=environment, capture_output=True, text=True, timeout=300, check=False)

    def test_a_database_that_cannot_be_fetched_is_said_in_one_line_and_the_lint_goes_on(self):
        checked = self.check()
        self.assertEqual(checked.returncode, 0, checked.stderr)
        loud = [line for line in checked.stderr.splitlines() if NOT_CHECKED in line]
        self.assertEqual(len(loud), 1, checked.stderr)
        self.assertIn(str(self.database), loud[0], "the line says why")

    def test_an_advisory_on_a_crate_of_ours_fails(self):
        self.make_database("tokio")
        checked = self.check()
        self.assertNotEqual(checked.returncode, 0, checked.stderr)
        self.assertIn("RUSTSEC-2026-9999", checked.stderr)
        self.assertNotIn(NOT_CHECKED, checked.stderr)

    def test_an_unmaintained_crate_fails_too(self):
        self.make_database("subtle", 'informational = "unmaintained"')
        checked = self.check()
        self.assertNotEqual(checked.returncode, 0, checked.stderr)
        self.assertIn("RUSTSEC-2026-9999", checked.stderr)

    def test_an_advisory_on_another_crate_passes(self):
        self.make_database("a-crate-that-nobody-has")
        checked = self.check()
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertIn("advisories ok", checked.stdout + checked.stderr)
        self.assertNotIn(NOT_CHECKED, checked.stderr)


class Sbom(unittest.TestCase):
    """sbom.py, as `make sbom` runs it."""

    @classmethod
    def setUpClass(cls):
        cls.texts = [cls.make(), cls.make()]
        cls.sbom = json.loads(cls.texts[0])

    @staticmethod
    def make():
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "sbom.json")
            subprocess.run([FOLDER / "sbom.py", "--output", output], capture_output=True, timeout=300, check=True)
            return output.read_text()

    def names(self, scope):
        return {component["name"] for component in self.sbom["components"] if component["scope"] == scope}

    def test_it_is_of_this_version_of_the_vault(self):
        package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
        subject = self.sbom["metadata"]["component"]
        self.assertEqual((subject["name"], subject["version"]), (package["name"], package["version"]))

    def test_what_is_linked_is_required_and_what_builds_is_excluded(self):
        self.assertLessEqual({"rustls", "tokio", "aws-lc-sys", "tokio-postgres", "tikv-jemallocator"}, self.names("required"))
        self.assertLessEqual({"protox", "tonic-prost-build", "serde_derive", "cc"}, self.names("excluded"))

    def test_what_is_not_compiled_into_the_vault_is_not_there(self):
        tests = {"criterion", "proptest", "rcgen"}
        # Optional crates of our dependencies, in Cargo.lock only.
        optional = {"quinn", "ring"}
        self.assertFalse((tests | optional) & (self.names("required") | self.names("excluded")))

    def test_every_crate_has_its_version_and_hash_of_the_lock_file(self):
        locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
        locked = {(package["name"], package["version"], package.get("checksum")) for package in locked}
        found = {(c["name"], c["version"], c["hashes"][0]["content"]) for c in self.sbom["components"]}
        self.assertGreater(len(found), 200)
        self.assertLessEqual(found, locked)

    def test_its_references_lead_to_what_is_there(self):
        there = {component["bom-ref"] for component in [*self.sbom["components"], self.sbom["metadata"]["component"]]}
        self.assertEqual({entry["ref"] for entry in self.sbom["dependencies"]}, there)
        self.assertLessEqual({ref for entry in self.sbom["dependencies"] for ref in entry.get("dependsOn", [])}, there)

    def test_the_same_source_gives_the_same_bytes_wherever_it_lies(self):
        self.assertEqual(*self.texts)
        self.assertNotIn(str(ROOT), self.texts[0])
        self.assertNotIn("serialNumber", self.sbom)


if __name__ == "__main__":
    unittest.main()
