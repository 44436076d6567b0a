//! `grantex-vault grant …`

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::output::outln;
use super::{Outcome, api_key::duration, developer::or_already, explain, target::Target};
use crate::{
    auth::key_set::SignatureAlgorithm,
    clock::{Clock, SystemClock},
    dev::{
        self, Instance,
        issuer::{ClaimsForm, DevIssuer, GrantClaims},
    },
    model::{
        page::PageSize,
        revocation::Revocation,
        service_name::ServiceName,
        text::{DeveloperId, GrantId},
    },
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Sign a grant token with a development issuer's key and print it.
    Mint(MintArgs),
    /// Refuse a grant from now on, with its tokens and those of grants delegated from it; for ever.
    Revoke {
        /// Whose.
        #[arg(long, value_name = "ID", value_parser = DeveloperId::parse)]
        developer: DeveloperId,
        /// The grant (claim urn:grantex:grant.grant_id or grnt; of a token without one its jti).
        #[arg(value_name = "GRANT", value_parser = GrantId::parse)]
        grant: GrantId,
        #[command(flatten)]
        target: Target,
    },
    /// List what is revoked of a developer: kind, subject, since when, until when it is remembered.
    Revocations {
        /// Whose.
        #[arg(long, value_name = "ID", value_parser = DeveloperId::parse)]
        developer: DeveloperId,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Args)]
pub(super) struct MintArgs {
    /// Whose credentials the grant is for (claim sub).
    #[arg(long, value_name = "ID")]
    principal: String,
    /// A service whose credential the grant is for: short for --scope vault:<SERVICE>:exchange.
    #[arg(long, required_unless_present = "scope", value_name = "SERVICE", value_parser = ServiceName::parse)]
    service: Vec<ServiceName>,
    /// A scope, such as vault:github:exchange; give it as often as there are scopes.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// The developer; that of the `dev` instance when not given.
    #[arg(long, value_name = "ID")]
    developer: Option<String>,
    /// The agent's DID.
    #[arg(long, value_name = "DID", default_value = "did:grantex:dev-agent")]
    agent: String,
    /// Which claims: standard, those of issuers from 0.7 on; short, those from before 0.6; both.
    #[arg(long, value_name = "FORM", default_value_t)]
    form: ClaimsForm,
    /// How it is signed: RS256 or ES256.
    #[arg(long, value_name = "ALG", default_value_t = SignatureAlgorithm::Rs256)]
    alg: SignatureAlgorithm,
    /// How long the token is good for.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    expires_in: Duration,
    /// The `dev` instance whose issuer signs.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::Mint(args) => mint(&args),
        Command::Revoke {
            developer,
            grant,
            target,
        } => {
            let (operations, by) = target.operations()?;
            let revoked = operations.revoke_grant(&by, &developer, grant.clone());
            let changed = revoked.await.map_err(explain)?;
            outln!("{grant} {}", or_already(changed, "revoked"));
            Ok(())
        }
        Command::Revocations { developer, target } => list(&developer, &target).await,
    }
}

async fn list(developer: &DeveloperId, target: &Target) -> Outcome {
    let (operations, by) = target.operations()?;
    let mut token = String::new();
    loop {
        let page = operations.revocations(&by, developer, PageSize::MAX, &token);
        let page = page.await.map_err(explain)?;
        for Revocation {
            what,
            revoked_at,
            expires_at,
        } in &page.items
        {
            let until = expires_at.map_or_else(|| "for ever".to_owned(), |at| at.to_string());
            let (kind, subject) = (what.kind(), what.subject(developer));
            outln!("{kind}\t{subject}\t{revoked_at}\t{until}");
        }
        let Some(next) = page.next_page_token else {
            return Ok(());
        };
        token = next;
    }
}

fn mint(args: &MintArgs) -> Outcome {
    let Some(data_dir) = &args.data_dir else {
        return Err(
            "there is no development issuer here: name a dev instance with --data-dir; \
                    the grants of a production issuer are not the vault's to sign"
                .into(),
        );
    };
    let instance = Instance::last(data_dir)?;
    let issuer = instance
        .issuer
        .filter(|_| instance.grant_token.is_some())
        .ok_or(
            "this dev instance uses the issuer that it was given as a flag; it has none of its own",
        )?;
    let of_services = args
        .service
        .iter()
        .map(|service| dev::exchange_scope(service.as_str()));
    let scopes: Vec<String> = of_services.chain(args.scope.iter().cloned()).collect();
    let claims = GrantClaims {
        issuer: &issuer,
        developer: args.developer.as_deref().unwrap_or(&instance.developer_id),
        principal: &args.principal,
        agent: &args.agent,
        scopes: &scopes,
        audience: instance.audience.as_deref(),
        now: SystemClock.now(),
        expires_in: args.expires_in,
    };
    let token = DevIssuer::load(data_dir)?.mint(&claims, args.form, args.alg);
    outln!("{token}");
    Ok(())
}
