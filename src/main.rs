//! The command `grantex-vault`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    Box::pin(grantex_vault::cli::run()).await
}
