//! Postgres: can it be reached, who are we there, what has it, what would it lose.

use super::Finding;
use crate::{
    clock::Clock,
    config::Database,
    model::cause::chain,
    store::{
        diagnosis::{Diagnosis, MAX_SKEW, MIN_STATEMENT_TIMEOUT, diagnose},
        schema::{Durability, SchemaFault},
    },
};

/// The oldest major version that the vault is for.
const OLDEST: i32 = 13;
pub(super) async fn examine(database: &Database, clock: &dyn Clock) -> Vec<Finding> {
    let diagnosis = match diagnose(&database.url, database.durability).await {
        Ok(diagnosis) => diagnosis,
        Err(fault) => return vec![unreachable(&fault)],
    };
    let mut findings = vec![
        version(&diagnosis),
        durability(&diagnosis, database.durability),
        schema(&diagnosis),
        time(&diagnosis, clock),
    ];
    findings.extend(statement_timeout(&diagnosis));
    findings.extend(room(&diagnosis));
    findings.extend(role(&diagnosis));
    findings
}

fn unreachable(fault: &SchemaFault) -> Finding {
    let fix = "check DATABASE_URL, the network between, sslmode and sslrootcert, and the password";
    Finding::wrong("database", chain(fault), fix)
}

fn version(diagnosis: &Diagnosis) -> Finding {
    let Diagnosis { version, role, .. } = diagnosis;
    let says = format!("Postgres {version} as {role}");
    if diagnosis.major_version < OLDEST {
        let fix = format!("use Postgres {OLDEST} or later");
        return Finding::wrong("database", says, fix);
    }
    Finding::fine("database", says)
}

fn durability(diagnosis: &Diagnosis, asked: Durability) -> Finding {
    const SUBJECT: &str = "durability";
    let off = diagnosis.switched_off.join(", ");
    if diagnosis.switched_off.is_empty() {
        return Finding::fine(SUBJECT, "committed writes survive a crash");
    }
    match asked {
        Durability::Required => {
            let says = format!("{off} off: acknowledged writes can be lost");
            let fix = format!(
                "switch {off} on; where the storage keeps every write by itself, as ZFS does whole \
                 pages, set GRANTEX_VAULT_STORAGE_IS_DURABLE=true"
            );
            Finding::wrong(SUBJECT, says, fix)
        }
        Durability::OfStorage => {
            let says = format!("{off} off, and GRANTEX_VAULT_STORAGE_IS_DURABLE=true");
            Finding::fine(SUBJECT, says)
        }
    }
}

fn schema(diagnosis: &Diagnosis) -> Finding {
    const SUBJECT: &str = "schema";
    match &diagnosis.schema {
        Ok(()) => Finding::fine(SUBJECT, "of this version"),
        Err(fault @ (SchemaFault::Missing | SchemaFault::Older(_))) => {
            Finding::wrong(SUBJECT, fault.to_string(), "run `grantex-vault migrate`")
        }
        Err(fault) => Finding::wrong(SUBJECT, chain(fault), "see what it says"),
    }
}

/// The database's clock stands for everybody else's: it is the one that can be asked.
fn time(diagnosis: &Diagnosis, clock: &dyn Clock) -> Finding {
    const SUBJECT: &str = "clock";
    let now = clock.now();
    let skew = now.since(diagnosis.now).max(diagnosis.now.since(now));
    let says = format!("{} ms beside the database's", skew.as_millis());
    let fix = "synchronise the clocks (NTP): tokens are refused or taken by the time here";
    if skew >= MAX_SKEW {
        Finding::wrong(SUBJECT, says, fix)
    } else if skew >= MAX_SKEW / 2 {
        Finding::doubtful(SUBJECT, says, fix)
    } else {
        Finding::fine(SUBJECT, says)
    }
}

/// Only what is wrong.
fn statement_timeout(diagnosis: &Diagnosis) -> Option<Finding> {
    let limit = diagnosis.statement_timeout;
    (!limit.is_zero() && limit < MIN_STATEMENT_TIMEOUT).then(|| {
        let says = format!("statements are cancelled after {} ms", limit.as_millis());
        let fix =
            "raise statement_timeout of the role or the database to a second at least, or to 0";
        Finding::wrong("statement_timeout", says, fix)
    })
}

/// Only what is wrong.
fn room(diagnosis: &Diagnosis) -> Option<Finding> {
    let fault = diagnosis.no_room.as_ref()?;
    let fix = "make room on the disks of Postgres, for its data and its log";
    Some(Finding::wrong("room", chain(fault), fix))
}

fn role(diagnosis: &Diagnosis) -> Option<Finding> {
    const SUBJECT: &str = "role";
    let role = &diagnosis.role;
    diagnosis.schema.as_ref().ok()?;
    if !diagnosis.missing.is_empty() {
        let says = format!("{role} may not {}", diagnosis.missing.join(", "));
        let fix =
            format!("run `grantex-vault migrate` as the owner with GRANTEX_VAULT_DB_ROLE={role}");
        return Some(Finding::wrong(SUBJECT, says, fix));
    }
    if !diagnosis.record_changes.is_empty() {
        let says = format!("{role} may {}", diagnosis.record_changes.join(", "));
        let fix = "serve as a role of its own, not the schema's owner: run `grantex-vault migrate` as the \
                   owner with GRANTEX_VAULT_DB_ROLE, and connect as that role";
        return Some(Finding::wrong(SUBJECT, says, fix));
    }
    Some(Finding::fine(
        SUBJECT,
        format!("{role} may do what serving needs, and change no audit event"),
    ))
}
