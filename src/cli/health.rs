//! `grantex-vault health`

use std::time::Duration;

use clap::Args;

use super::Outcome;
use crate::config;

/// A health check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct HealthArgs {
    /// Where the vault's admin listener is, as host:port [env: GRANTEX_VAULT_ADMIN_ADDR]
    #[arg(long, value_name = "HOST:PORT")]
    admin_addr: Option<String>,
    /// Ask only whether the process answers, not whether it should get requests.
    #[arg(long)]
    live: bool,
}

/// Prints what `/readyz` says; fails when it does not say 200.
pub(super) async fn run(args: HealthArgs) -> Outcome {
    let address = match args.admin_addr {
        Some(address) => address,
        None => config::admin_addr(&config::environment)?.to_string(),
    };
    let path = if args.live { "livez" } else { "readyz" };
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    let asked = client.build()?.get(format!("http://{address}/{path}"));
    let answer = asked
        .send()
        .await
        .map_err(|_| format!("no answer from {address}"))?;
    let status = answer.status();
    println!("{}", answer.text().await?.trim_end());
    if status.is_success() {
        return Ok(());
    }
    Err(format!("{path} says {status}").into())
}
