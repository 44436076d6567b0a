//! Compiles `proto/` with protox (no `protoc` needed) and keeps the encoded descriptor set for reflection.

use std::{env, error::Error, fs, path::PathBuf};

/// Messages that carry a secret: their `Debug` is written by hand, in `src/grpc/pb.rs`.
const SECRET_MESSAGES: [&str; 3] = [
    ".grantex.vault.admin.v1.CreateApiKeyResponse",
    ".grantex.vault.v1.StoreCredentialRequest",
    ".grantex.vault.v1.ExchangeCredentialResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=src/store/migrations");

    // Two sets, so that reflection on a public listener knows nothing of the admin service.
    compile(
        "descriptor_set.bin",
        &[
            "grantex/vault/v1/vault.proto",
            "grantex/vault/v1/audit.proto",
        ],
    )?;
    compile(
        "admin_descriptor_set.bin",
        &["grantex/vault/admin/v1/admin.proto"],
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to a build script by environment"
)]
fn compile(descriptor_set: &str, files: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)?;

    // Encoded by the compiler itself: decoding it into prost types would drop the `google.api.http` options.
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(
        out.join(descriptor_set),
        compiler.encode_file_descriptor_set(),
    )?;

    // The client is for our tests and knows no transport: whoever uses it brings a channel.
    tonic_prost_build::configure()
        .build_transport(false)
        .skip_debug(SECRET_MESSAGES)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
