//! The issuer: can its keys be had, and are there any that verify grants.

use std::sync::Arc;

use super::Finding;
use crate::{
    app::rooms, auth::jwks::VerificationKeys, clock::Clock, config::Config, model::cause::chain,
};

const SUBJECT: &str = "issuer's keys";

pub(super) async fn examine(config: &Config, clock: &Arc<dyn Clock>) -> Finding {
    let fix = "check GRANTEX_VAULT_ISSUER, GRANTEX_VAULT_JWKS_URL or GRANTEX_VAULT_JWKS_FILE, and \
               the network to the issuer";
    let source = match rooms::key_source(&config.keys, &config.proxies) {
        Ok(source) => source,
        Err(faults) => return Finding::wrong(SUBJECT, faults.all().join("; "), fix),
    };
    let keys = VerificationKeys::new(source, Arc::clone(clock), config.jwks_max_stale);
    if let Err(fault) = keys.refresh().await {
        return Finding::wrong(SUBJECT, chain(&fault), fix);
    }
    let skipped = keys.skipped();
    match keys.usable() {
        0 => {
            let says = format!("none of its {skipped} keys verifies RS256 or ES256");
            let fix = "have the issuer publish an RSA key of 2048 to 8192 bits, or one on P-256, with \
                       kid, and with use \"sig\" and the right alg where it has those";
            Finding::wrong(SUBJECT, says, fix)
        }
        many => Finding::fine(
            SUBJECT,
            format!("{many} of them verify grants, {skipped} are skipped"),
        ),
    }
}
