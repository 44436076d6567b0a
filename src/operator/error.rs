//! Why an operation was not done, by who must act.

#![warn(clippy::wildcard_enum_match_arm)]

use std::error::Error;

use thiserror::Error;

use crate::{
    audit::journal::Unrecorded,
    envelope::EnvelopeError,
    limits::Exceeded,
    model::{invalid::InvalidInput, sealed::MasterKeyId},
    rotation::RotationFault,
    store::StoreFault,
};

/// Why an operation was not done. Its text is for the operator.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// The operator must come with other credentials.
    #[error("the operator is not known")]
    Unauthenticated,
    /// The address must wait: too many who came from it were not known.
    #[error("too many logins from this address have failed")]
    TooManyFailures(Exceeded),
    /// The operator must ask for something else.
    #[error("{0}")]
    InvalidInput(#[from] InvalidInput),
    /// There is no such thing.
    #[error("there is no such {}", .0.as_str())]
    NotFound(Missing),
    /// The operator must go to the authority.
    #[error(
        "developers and their API keys are those of the Grantex auth service \
         (GRANTEX_VAULT_AUTHORITY=grantex)"
    )]
    OtherAuthority,
    /// Time, or an operator, must act: nothing was done, or it is not known what was.
    #[error("the database is unavailable")]
    Database(#[from] StoreFault),
    /// The same of the audit record.
    #[error("the audit record is unavailable")]
    Audit(#[from] Unrecorded),
    /// Time, or an operator, must act: it is forbidden from now on, but a transaction from before goes on.
    #[error(
        "this is revoked from now on, but a transaction that began before has not ended: ask again, and \
         look at pg_stat_activity if that does not help"
    )]
    EarlierRequests,
    /// The operator must make another key the primary first.
    #[error("{0} is the primary: new credentials are wrapped by it")]
    PrimaryKey(MasterKeyId),
    /// The operator must rewrap first.
    #[error("{0} is needed: it wraps keys still, so rewrap first")]
    NeededKey(MasterKeyId),
    /// The same of the master key.
    #[error("the master key is unavailable")]
    MasterKey(#[source] Box<dyn Error + Send + Sync>),
}

/// What is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says what it is")]
pub enum Missing {
    Developer,
    ApiKey,
}

impl Missing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Developer => "developer",
            Self::ApiKey => "API key",
        }
    }
}

impl OperatorError {
    /// What made it fail, for the log; `None` when that is the caller's affair.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Database(fault) => Some(fault),
            Self::Audit(fault) => Some(fault),
            Self::MasterKey(fault) => Some(&**fault),
            Self::Unauthenticated
            | Self::TooManyFailures(_)
            | Self::InvalidInput(_)
            | Self::NotFound(_)
            | Self::OtherAuthority
            | Self::EarlierRequests
            | Self::PrimaryKey(_)
            | Self::NeededKey(_) => None,
        }
    }
}

impl From<RotationFault> for OperatorError {
    fn from(fault: RotationFault) -> Self {
        match fault {
            RotationFault::Store(fault) => Self::Database(fault),
            RotationFault::MasterKey(_) => Self::MasterKey(fault.into()),
        }
    }
}

impl From<EnvelopeError> for OperatorError {
    fn from(error: EnvelopeError) -> Self {
        Self::MasterKey(error.into())
    }
}
