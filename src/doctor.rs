//! `grantex-vault doctor`: looks at everything that a server of this configuration needs, and says
//! what to fix. It changes nothing and serves nothing.

mod database;
mod issuer;
mod master_keys;

use std::sync::Arc;

use crate::{
    auth::admin_token::AdminToken,
    clock::{Clock, SystemClock},
    config::{Config, Database, MasterKeySettings, Operators},
    listener::tls::{self, ClientAuthorities, Problem, TlsFiles},
    model::timestamp::Timestamp,
};

/// How long before its end a certificate is worth a warning.
const EXPIRES_SOON: std::time::Duration = std::time::Duration::from_hours(21 * 24);

/// What was found of one thing.
#[derive(Debug)]
pub struct Finding {
    /// Of what.
    pub subject: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub says: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It works, and somebody should look at it.
    Doubtful,
    /// A server does not start, or does not serve something.
    Wrong,
}

/// Looks at everything, as far as the configuration says where it is.
pub async fn examine(lookup: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let config = Config::read(lookup);
    let mut findings = configuration(&config);
    if let Ok(database) = Database::read(lookup) {
        findings.extend(database::examine(&database, &*clock).await);
    }
    if let Ok(keys) = MasterKeySettings::read(lookup) {
        findings.extend(master_keys::examine(&keys, &clock).await);
    }
    if let Ok(config) = &config {
        findings.push(issuer::examine(config, &clock).await);
        let now = clock.now();
        let authorities = ClientAuthorities::default();
        let certificate = |subject, files| certificate(subject, files, &authorities, now);
        findings.extend(certificate("certificate", config.tls.as_ref()));
        findings.extend(certificate("admin certificate", config.admin.tls.as_ref()));
        if let Some(operators) = &config.operators {
            let tls = operators.tls.as_ref();
            findings.extend(certificate("operators' certificate", tls));
            findings.extend(operators_token(operators).await);
        }
    }
    findings
}

fn configuration(config: &Result<Config, crate::config::ConfigFaults>) -> Vec<Finding> {
    const SUBJECT: &str = "configuration";
    match config {
        Ok(_) => vec![Finding::fine(SUBJECT, "complete")],
        Err(faults) => {
            let wrong = |fault: &String| {
                let fix = "change this setting; the README has them all";
                Finding::wrong(SUBJECT, fault.clone(), fix)
            };
            faults.all().iter().map(wrong).collect()
        }
    }
}

/// The token that admits operators, if there is to be one.
async fn operators_token(operators: &Operators) -> Option<Finding> {
    const SUBJECT: &str = "operators' token";
    let file = operators.token_file.clone()?;
    Some(match AdminToken::of(file).await {
        Ok(_) => Finding::fine(SUBJECT, "it can be read"),
        Err(fault) => {
            let says = format!("GRANTEX_VAULT_OPERATOR_TOKEN_FILE {fault}");
            Finding::wrong(SUBJECT, says, "give a token in a file, and nothing else")
        }
    })
}

fn certificate(
    subject: &'static str,
    files: Option<&TlsFiles>,
    authorities: &ClientAuthorities,
    now: Timestamp,
) -> Option<Finding> {
    let validity = match tls::check(files?, authorities) {
        Ok(validity) => validity,
        Err(fault) => {
            let setting = fault.setting;
            let fix = match fault.problem {
                Problem::SharedAuthority => "give operators an authority of their own",
                _ => "give certificate and key as PEM files of one another",
            };
            return Some(Finding::wrong(subject, format!("{setting} {fault}"), fix));
        }
    };
    let until = validity.not_after;
    if let Err(problem) = validity.now(now) {
        let says = format!("it {problem} (good until {until})");
        return Some(Finding::wrong(subject, says, "renew it"));
    }
    let says = format!("good until {until}");
    Some(if until.since(now) < EXPIRES_SOON {
        Finding::doubtful(
            subject,
            says,
            "renew it; the files are read again when they change",
        )
    } else {
        Finding::fine(subject, says)
    })
}

// === impl Finding ===

impl Finding {
    fn fine(subject: impl Into<String>, says: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            verdict: Verdict::Fine,
            says: says.into(),
            fix: None,
        }
    }

    fn doubtful(
        subject: impl Into<String>,
        says: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Doubtful,
            fix: Some(fix.into()),
            ..Self::fine(subject, says)
        }
    }

    fn wrong(subject: impl Into<String>, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Wrong,
            ..Self::doubtful(subject, says, fix)
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// As it is printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Doubtful => "WARN",
            Self::Wrong => "FAIL",
        }
    }
}
