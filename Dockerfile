# The image of grantex-vault: its binary on distroless. Nothing else is in it, no shell either.
#
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" -t grantex-vault:0.1.0 .
#
# Base images are pinned by digest, for every platform that they have; `make base-images` writes those of the day.

# === What builds: Rust, and what aws-lc needs for its C code ===

FROM rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS chef
# Debian's own versions of the day: they build, and are not in the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends clang cmake make \
    && rm -rf /var/lib/apt/lists/*
RUN cargo install cargo-chef --version 0.1.78 --locked
WORKDIR /src

# === The dependencies, in a layer that changes with Cargo.lock only ===

FROM chef AS planner
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS builder
COPY --from=planner /src/recipe.json recipe.json
RUN cargo chef cook --release --locked --bin grantex-vault --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --bin grantex-vault

# === What runs: glibc, CA certificates, a user that is not root ===

# The Debian release of the builder, for its glibc.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f

ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="grantex-vault" \
      org.opencontainers.image.description="A credential vault for AI agents" \
      org.opencontainers.image.source="https://github.com/grantex/grantex-vault" \
      org.opencontainers.image.documentation="https://github.com/grantex/grantex-vault/blob/main/README.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=builder /src/target/release/grantex-vault /usr/local/bin/grantex-vault

# By number, so that runAsNonRoot can be checked.
USER 65532:65532
# gRPC, HTTP, and the admin listener, which is on loopback until GRANTEX_VAULT_ADMIN_ADDR says otherwise.
EXPOSE 50051 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/grantex-vault", "health"]
ENTRYPOINT ["/usr/local/bin/grantex-vault"]
CMD ["serve"]
