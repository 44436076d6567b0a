//! The command `grantex-vault`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    grantex_vault::cli::run().await
}
