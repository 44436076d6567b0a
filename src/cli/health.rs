//! `grantex-vault health`

use std::time::Duration;

use clap::Args;

use super::Outcome;
use super::output::outln;
use crate::config;

/// A health check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct HealthArgs {
    /// Where the vault's admin listener is, as host:port [env: GRANTEX_VAULT_ADMIN_ADDR]
    #[arg(long, value_name = "HOST:PORT")]
    admin_addr: Option<String>,
    /// Ask over TLS, as is done anyway where GRANTEX_VAULT_ADMIN_TLS_CERT_FILE is set.
    #[arg(long)]
    tls: bool,
    /// Ask only whether the process answers, not whether it should get requests.
    #[arg(long)]
    live: bool,
}

/// Prints what `/readyz` says; fails when it does not say 200.
pub(super) async fn run(args: HealthArgs) -> Outcome {
    let configured = config::admin(&config::environment)?;
    let address = args
        .admin_addr
        .unwrap_or_else(|| configured.address.to_string());
    let scheme = if args.tls || configured.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let path = if args.live { "livez" } else { "readyz" };
    // As the kubelet does: no name is asked for, nothing secret is said, and a wrong answer comes from
    // whoever has the port anyway.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .tls_danger_accept_invalid_certs(true);
    let asked = client.build()?.get(format!("{scheme}://{address}/{path}"));
    let answer = asked
        .send()
        .await
        .map_err(|_| format!("no answer from {address}"))?;
    let status = answer.status();
    outln!("{}", answer.text().await?.trim_end());
    if status.is_success() {
        return Ok(());
    }
    Err(format!("{path} says {status}").into())
}
