# make dev    an instance on this machine, with nothing else to start
# make test   everything that can be tested, setting up what it needs
# make lint   formatting, lints, the protobuf contract, the dependencies against deny.toml
# make chart  the Helm chart, the Dockerfile, the dashboard and the alerts; `make test` does it too
# make sbom   what the binary is made of, as CycloneDX: target/grantex-vault.cdx.json
# make base-images  writes the digests of the day into the Dockerfile
# make bench  the vault under load, beside pgbench: a quarter of an hour, and the release build before
# make bench-growth  the same verbs on tenants of 10 thousand to 10 million credentials; 12 GB of disk

VENV := .venv
NODE := .venv/node
BUF := npx --yes @bufbuild/buf@1.75.0
DENY := .tools/cargo-deny
CYCLONEDX_VERSION := 0.5.9
CYCLONEDX := .tools/cargo-cyclonedx-$(CYCLONEDX_VERSION).installed

.PHONY: dev test lint chart sbom base-images bench bench-growth setup postgres

dev: postgres
	cargo build --quiet
	exec target/debug/grantex-vault dev $(ARGS)

test: setup
	cargo test
	supply-chain/test.py
	helm/tests/run.sh

lint: $(DENY)/ready
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	$(BUF) lint
	supply-chain/check-dependencies.sh

# It installs what it needs into .tools/: some minutes once, then seconds.
chart:
	helm/tests/run.sh

# ARGS='--target aarch64-unknown-linux-gnu' for another target than x86-64 Linux.
sbom: $(CYCLONEDX)
	@supply-chain/sbom.py $(ARGS)

base-images:
	@supply-chain/base-images.sh

# ARGS=--quick measures everything for a second once; ARGS='--json <file>', and for the curves of
# bench-growth '--svg <file>', name the results.
bench: postgres
	@benches/install-tools.sh
	cargo bench --bench load -- $(ARGS)

bench-growth: postgres
	cargo bench --bench growth -- $(ARGS)

# What the tests need beside Rust: Postgres' server programs; from PyPI a KMS endpoint, the SDK and what
# signs tokens; from npm what signs tokens; what looks at the dependencies.
setup: postgres $(VENV)/ready $(NODE)/ready $(DENY)/ready $(CYCLONEDX)

postgres:
	@tests/install-postgres.sh

$(VENV)/ready: tests/requirements.txt
	@tests/make-venv.sh $(VENV)
	@touch $@

$(NODE)/ready: tests/tokens/package.json $(VENV)/ready
	@tests/make-node.sh $(NODE)
	@touch $@

$(DENY)/ready: supply-chain/requirements.txt
	@tests/make-venv.sh $(DENY) $<
	@touch $@

# Unoptimized: it compiles faster, and runs for a second.
$(CYCLONEDX):
	@echo "Building cargo-cyclonedx (a minute, once)…" >&2
	@cargo install --quiet --locked --debug --root .tools cargo-cyclonedx@$(CYCLONEDX_VERSION)
	@touch $@
