//! `grantex-vault token …`

use clap::Subcommand;

use super::output::outln;
use super::{Outcome, developer::or_already, explain, target::Target};
use crate::model::{
    text::{DeveloperId, TokenId},
    timestamp::Timestamp,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Refuse one grant token from now on.
    Revoke {
        /// Whose.
        #[arg(long, value_name = "ID", value_parser = DeveloperId::parse)]
        developer: DeveloperId,
        /// The token (claim jti).
        #[arg(value_name = "TOKEN ID", value_parser = TokenId::parse)]
        token: TokenId,
        /// When it expires (claim exp), so that its revocation can be forgotten then; without it the
        /// revocation is remembered for GRANTEX_VAULT_MAX_TOKEN_LIFETIME, or for ever.
        #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
        expires_at: Option<Timestamp>,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn run(command: Command) -> Outcome {
    let Command::Revoke {
        developer,
        token,
        expires_at,
        target,
    } = command;
    let (operations, by) = target.operations()?;
    let revoked = operations.revoke_token(&by, &developer, token.clone(), expires_at);
    let changed = revoked.await.map_err(explain)?;
    outln!("{token} {}", or_already(changed, "revoked"));
    Ok(())
}
