//! The command `grantex-vault`.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// A request allocates some hundred times; with glibc's allocator that was a quarter of its time.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    grantex_vault::cli::run().await
}
