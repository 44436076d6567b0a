//! `grantex-vault grant …`

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::{Outcome, api_key::duration};
use crate::{
    clock::{Clock, SystemClock},
    dev::{
        Instance,
        issuer::{DevIssuer, GrantClaims},
    },
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Sign a grant token with a development issuer's key and print it.
    Mint(MintArgs),
}

#[derive(Args)]
pub(super) struct MintArgs {
    /// Whose credentials the grant is for (claim sub).
    #[arg(long, value_name = "ID")]
    principal: String,
    /// A scope, such as github:read; give it as often as there are scopes (claim scp).
    #[arg(long, required = true, value_name = "SCOPE")]
    scope: Vec<String>,
    /// The developer; that of the `dev` instance when not given (claim dev).
    #[arg(long, value_name = "ID")]
    developer: Option<String>,
    /// The agent's DID (claim agt).
    #[arg(long, value_name = "DID", default_value = "did:grantex:dev-agent")]
    agent: String,
    /// How long the token is good for.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    expires_in: Duration,
    /// The `dev` instance whose issuer signs.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(Command::Mint(args): Command) -> Outcome {
    let Some(data_dir) = &args.data_dir else {
        return Err(
            "there is no development issuer here: name a dev instance with --data-dir; \
                    the grants of a production issuer are not the vault's to sign"
                .into(),
        );
    };
    let instance = Instance::last(data_dir)?;
    let issuer = instance.issuer.filter(|_| instance.grant_token.is_some()).ok_or(
        "this dev instance uses the issuer that GRANTEX_VAULT_ISSUER names; it has none of its own",
    )?;
    let token = DevIssuer::load(data_dir)?.mint(&GrantClaims {
        issuer: &issuer,
        developer: args.developer.as_deref().unwrap_or(&instance.developer_id),
        principal: &args.principal,
        agent: &args.agent,
        scopes: &args.scope,
        now: SystemClock.now(),
        expires_in: args.expires_in,
    });
    println!("{token}");
    Ok(())
}
