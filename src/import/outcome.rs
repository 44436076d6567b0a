//! What became of the rows of a source, and what somebody who watches is told.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use thiserror::Error;

use crate::{
    envelope::legacy_grantex::LegacyFault,
    model::{id::CredentialId, metadata::MetadataFault, text::TextFault},
    store::imports::Standing,
};

/// Why a row was not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Lost {
    /// Services compare without case here: there is one for all spellings.
    #[error("service: another spelling of it was changed later and is the one that is imported")]
    AnotherSpelling,
    /// The tenant.
    #[error("developer_id: {0}")]
    Developer(TextFault),
    /// The end user.
    #[error("principal_id: {0}")]
    Principal(TextFault),
    /// Not what a service can be called.
    #[error(
        "service: must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash"
    )]
    Service,
    /// The kind.
    #[error("credential_type: {0}")]
    CredentialType(TextFault),
    /// The secret that agents receive.
    #[error("access_token: {0}")]
    AccessToken(LegacyFault),
    /// The secret that nobody receives.
    #[error("refresh_token: {0}")]
    RefreshToken(LegacyFault),
    /// A column that holds a moment which the vault cannot hold.
    #[error("{0}: is not in the years 0001 to 9999")]
    Moment(&'static str),
    /// A column is null, say, or no text in the encoding of its database.
    #[error("a column holds what it should not")]
    Unreadable,
    /// Developer, principal and service are too long together for the index.
    #[error(
        "the vault's database refuses it: developer, principal and service are too long together"
    )]
    Refused,
    /// Of a developer: what should be the SHA-256 of its key.
    #[error("api_key_hash: is not 64 hexadecimal digits")]
    KeyHash,
    /// Of a developer: nobody else gets a key that is in use.
    #[error("api_key_hash: the key is another developer's in the vault")]
    KeyOfAnother,
}

/// What was changed of a row that was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Remark {
    /// The id that it has here: the one there has no form that is kept.
    #[error("imported as {0}: its id is not vault_, vc_ or cred_ and a ULID")]
    Id(CredentialId),
    /// It is no JSON object, nor a string that holds one.
    #[error("imported with metadata {{}}: it {0}")]
    Metadata(MetadataProblem),
    /// A developer is called by its id then.
    #[error("imported under its id as name: the name {0}")]
    Name(TextFault),
}

/// Why metadata was left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MetadataProblem {
    /// A string in it is not JSON as we take it in.
    #[error("is not valid JSON")]
    NotJson,
    /// JSON with a rule broken.
    #[error("{0}")]
    Rule(MetadataFault),
}

/// How much of an id a line shows.
const MAX_SHOWN_CHARS: usize = 128;

/// A line of the report. Whoever can write the source chooses the id: it is escaped, and cut off where it
/// is long.
pub struct Report<'a> {
    /// Of which row.
    pub id: &'a str,
    /// What is said of it.
    pub what: &'a dyn fmt::Display,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id.char_indices().nth(MAX_SHOWN_CHARS) {
            None => write!(f, "{}", self.id.escape_debug())?,
            Some((end, _)) => {
                let chars = self.id.chars().count();
                let shown = self.id.get(..end).unwrap_or_default();
                write!(f, "{}… ({chars} characters)", shown.escape_debug())?;
            }
        }
        write!(f, "\t{}", self.what)
    }
}

/// Counts, and passes on what is to be reported as it is found.
pub struct Watch<'a> {
    looked: AtomicU64,
    imported: AtomicU64,
    unchanged: AtomicU64,
    kept: AtomicU64,
    remarks: AtomicU64,
    lost: AtomicU64,
    report: &'a (dyn Fn(&Report<'_>) + Sync),
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that were looked at.
    pub looked: u64,
    /// Those that were taken over.
    pub imported: u64,
    /// Those that were taken over before and did not change.
    pub unchanged: u64,
    /// Those that the vault stored or deleted itself since.
    pub kept: u64,
    /// Those that were taken over with something changed.
    pub remarks: u64,
    /// Those that were not taken over and are not here.
    pub lost: u64,
}

impl<'a> Watch<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new(report: &'a (dyn Fn(&Report<'_>) + Sync)) -> Self {
        Self {
            looked: AtomicU64::new(0),
            imported: AtomicU64::new(0),
            unchanged: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            remarks: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            report,
        }
    }

    /// How far it is now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            looked: read(&self.looked),
            imported: read(&self.imported),
            unchanged: read(&self.unchanged),
            kept: read(&self.kept),
            remarks: read(&self.remarks),
            lost: read(&self.lost),
        }
    }

    pub(super) fn looked(&self) {
        add_one(&self.looked);
    }

    pub(super) fn imported(&self) {
        add_one(&self.imported);
    }

    pub(super) fn unchanged(&self) {
        add_one(&self.unchanged);
    }

    /// It is left as it is here.
    pub(super) fn left(&self, found: Standing) {
        match found {
            Standing::Stored | Standing::Deleted => add_one(&self.kept),
            Standing::New | Standing::Older | Standing::AsNew => self.unchanged(),
        }
    }

    /// It was taken over, with these changes.
    pub(super) fn remarks(&self, id: &str, remarks: &[Remark]) {
        if !remarks.is_empty() {
            add_one(&self.remarks);
        }
        for remark in remarks {
            (self.report)(&Report { id, what: remark });
        }
    }

    pub(super) fn lost(&self, id: &str, why: Lost) {
        add_one(&self.lost);
        let what = format_args!("lost: {why}");
        (self.report)(&Report { id, what: &what });
    }
}

fn add_one(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_the_id() {
        let line = |id: &str| {
            let what = &Lost::Service;
            let line = Report { id, what }.to_string();
            let (id, _) = line.split_once('\t').unwrap();
            id.to_owned()
        };
        assert_eq!(line(""), "");
        assert_eq!(line("a\tb\nc\u{1b}[2J"), "a\\tb\\nc\\u{1b}[2J");
        assert_eq!(line("\u{202e}id"), "\\u{202e}id");
        assert_eq!(line(&"é".repeat(128)), "é".repeat(128));
        let cut = format!("{}… (100000 characters)", "é".repeat(128));
        assert_eq!(line(&"é".repeat(100_000)), cut);
    }
}
