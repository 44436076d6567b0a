//! The issuer: can its keys be had, and are there any that verify RS256.

use std::sync::Arc;

use super::Finding;
use crate::{
    app::rooms, auth::jwks::VerificationKeys, clock::Clock, config::Config, model::cause::chain,
};

const SUBJECT: &str = "issuer's keys";

pub(super) async fn examine(config: &Config, clock: &Arc<dyn Clock>) -> Finding {
    let fix = "check GRANTEX_VAULT_ISSUER, GRANTEX_VAULT_JWKS_URL or GRANTEX_VAULT_JWKS_FILE, and \
               the network to the issuer";
    let source = match rooms::key_source(&config.keys) {
        Ok(source) => source,
        Err(faults) => return Finding::wrong(SUBJECT, faults.all().join("; "), fix),
    };
    let keys = VerificationKeys::new(source, Arc::clone(clock), config.jwks_max_stale);
    if let Err(fault) = keys.refresh().await {
        return Finding::wrong(SUBJECT, chain(&fault), fix);
    }
    match keys.count() {
        0 => {
            let says = "the key set holds none that verifies RS256";
            let fix = "have the issuer publish an RSA key of 2048 bits or more, with kid";
            Finding::wrong(SUBJECT, says, fix)
        }
        many => Finding::fine(SUBJECT, format!("{many} of them verify RS256")),
    }
}
