//! What a caller is told when a verb does not succeed, and what the operator is told.

#![warn(clippy::wildcard_enum_match_arm)]

use std::{sync::Arc, time::Duration};

use crate::{
    audit::{
        event::{Denial, Failure, Outcome},
        journal::Unrecorded,
    },
    envelope::{EnvelopeError, data_key::DoesNotOpen, kms::KmsFault},
    limits::Exceeded,
    model::{
        cause::chain,
        id::CredentialId,
        invalid::InvalidInput,
        request::{Interruption, RequestContext},
    },
    store::StoreFault,
};

/// Why a verb did not succeed.
#[derive(Debug)]
pub enum VaultError {
    /// The caller must change the request.
    InvalidInput(InvalidInput),
    /// The caller must come with other credentials.
    Unauthenticated(Unauthenticated),
    /// The caller must get another grant.
    OutOfScope {
        /// The service in the spelling of the request.
        service: String,
    },
    /// The caller must ask the developer: the credential is for other agents. It is told what others are
    /// told.
    AgentNotAllowed {
        /// The service in the spelling of the request.
        service: String,
    },
    /// There is no such thing.
    NotFound(NotFound),
    /// The caller must wait: a budget is used up.
    RateLimited(Exceeded),
    /// No verb answered.
    Interrupted(Interruption),
    /// Time, or an operator, must act; the caller may try again.
    Unavailable(Unavailable),
    /// Somebody must find out what happened.
    Internal(Internal),
}

/// How a caller is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthenticated {
    /// No usable `Authorization`, where an API key is asked for.
    NoAuthorization,
    /// A key that admits nobody.
    ApiKey,
    /// No usable `Authorization`, where a grant token is asked for.
    NoGrantToken,
    /// A token that does not verify.
    InvalidGrant,
    /// A token whose grant was revoked. The caller is told what others are told.
    RevokedGrant,
    /// A webhook that no secret of its developer has signed.
    WebhookSignature,
}

/// What is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// No credential of this id.
    Credential,
    /// None of this principal for this service.
    ForPrincipalAndService,
}

/// What cannot be had.
#[derive(Debug)]
pub enum Unavailable {
    /// Postgres.
    Database(StoreFault),
    /// The audit record.
    Audit(Unrecorded),
    /// The master key.
    MasterKey(Arc<KmsFault>),
    /// The master key that this replica wraps with was retired.
    RetiredMasterKey(StoreFault),
    /// The issuer's keys.
    IssuerKeys,
}

/// What should never happen.
#[derive(Debug)]
pub enum Internal {
    /// A stored credential does not open: moved, re-labelled, changed, or damaged.
    DoesNotOpen {
        /// Which.
        credential: Option<CredentialId>,
        /// What of it.
        fault: DoesNotOpen,
    },
    /// A row holds what the vault never writes.
    InconsistentRow(StoreFault),
}

/// The kinds of failure that clients can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table below says what each is on the wire")]
pub enum Kind {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    TooManyRequests,
    /// Over gRPC only: REST has no deadlines.
    DeadlineExceeded,
    Unavailable,
    Internal,
}

/// When an unavailable vault is worth another try.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Kind {
    /// The one table from kind to wire: code in bodies, HTTP status, gRPC code (RFC 9110, section
    /// 15; `google.rpc.Code`).
    #[must_use]
    pub const fn on_the_wire(self) -> (&'static str, u16, i32) {
        match self {
            Self::InvalidArgument => ("BAD_REQUEST", 400, 3),
            Self::Unauthenticated => ("UNAUTHORIZED", 401, 16),
            Self::PermissionDenied => ("FORBIDDEN", 403, 7),
            Self::NotFound => ("NOT_FOUND", 404, 5),
            Self::TooManyRequests => ("RATE_LIMIT_EXCEEDED", 429, 8),
            Self::DeadlineExceeded => ("DEADLINE_EXCEEDED", 504, 4),
            Self::Unavailable => ("UNAVAILABLE", 503, 14),
            Self::Internal => ("INTERNAL_ERROR", 500, 13),
        }
    }
}

impl VaultError {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::InvalidInput(_) => Kind::InvalidArgument,
            Self::Unauthenticated(_) => Kind::Unauthenticated,
            Self::OutOfScope { .. } | Self::AgentNotAllowed { .. } => Kind::PermissionDenied,
            Self::NotFound(_) => Kind::NotFound,
            Self::RateLimited(_) | Self::Interrupted(Interruption::OverShare) => {
                Kind::TooManyRequests
            }
            Self::Interrupted(Interruption::DeadlineExceeded) => Kind::DeadlineExceeded,
            Self::Interrupted(Interruption::Overloaded | Interruption::TimedOut)
            | Self::Unavailable(_) => Kind::Unavailable,
            Self::Interrupted(Interruption::Panicked) | Self::Internal(_) => Kind::Internal,
        }
    }

    /// When it is worth another try; `None` when another try ends the same.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::RateLimited(exceeded) = self {
            return Some(exceeded.retry_after);
        }
        let is_worth_it = matches!(self.kind(), Kind::Unavailable | Kind::TooManyRequests);
        is_worth_it.then_some(RETRY_AFTER)
    }

    /// What the caller is told. Chosen here, never taken from an inner error.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::InvalidInput(invalid) => invalid.message.clone(),
            Self::Unauthenticated(Unauthenticated::NoAuthorization) => {
                "Missing or invalid Authorization header".into()
            }
            Self::Unauthenticated(Unauthenticated::ApiKey) => "Invalid API key".into(),
            Self::Unauthenticated(Unauthenticated::NoGrantToken) => "Missing grant token".into(),
            Self::Unauthenticated(
                Unauthenticated::InvalidGrant | Unauthenticated::RevokedGrant,
            ) => "Invalid or expired grant token".into(),
            Self::Unauthenticated(Unauthenticated::WebhookSignature) => {
                "Invalid webhook signature".into()
            }
            Self::OutOfScope { service } | Self::AgentNotAllowed { service } => {
                format!("Grant token is not scoped for {service} credential exchange")
            }
            Self::NotFound(NotFound::Credential) => "Credential not found".into(),
            Self::NotFound(NotFound::ForPrincipalAndService) => {
                "No credential found for this principal and service".into()
            }
            Self::Unavailable(Unavailable::Database(_)) => {
                "The vault's database is unavailable".into()
            }
            Self::Unavailable(Unavailable::Audit(_)) => "The vault's audit is unavailable".into(),
            Self::Unavailable(Unavailable::MasterKey(_) | Unavailable::RetiredMasterKey(_)) => {
                "The vault's key management is unavailable".into()
            }
            Self::Unavailable(Unavailable::IssuerKeys) => {
                "The issuer's verification keys are unavailable".into()
            }
            Self::RateLimited(_) => "Rate limit exceeded".into(),
            Self::Interrupted(Interruption::Overloaded) => {
                "The vault has too many requests under way".into()
            }
            Self::Interrupted(Interruption::OverShare) => {
                "Too many requests of this caller are under way".into()
            }
            Self::Interrupted(Interruption::TimedOut | Interruption::DeadlineExceeded) => {
                "The request took too long".into()
            }
            Self::Interrupted(Interruption::Panicked) | Self::Internal(_) => {
                "An unexpected error occurred".into()
            }
        }
    }

    /// What the audit event says; `None` for what has none: input that was never acted on, callers
    /// that are not known or ask too much, and a database that could not take it.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Unauthenticated(Unauthenticated::RevokedGrant) => {
                Some(Outcome::Denied(Denial::GrantRevoked))
            }
            Self::OutOfScope { .. } => Some(Outcome::Denied(Denial::OutOfScope)),
            Self::AgentNotAllowed { .. } => Some(Outcome::Denied(Denial::AgentNotAllowed)),
            Self::NotFound(_) => Some(Outcome::NotFound),
            Self::Unavailable(Unavailable::MasterKey(_) | Unavailable::RetiredMasterKey(_)) => {
                Some(Outcome::Failed(Failure::MasterKeyUnavailable))
            }
            Self::Internal(Internal::DoesNotOpen { .. }) => {
                Some(Outcome::Failed(Failure::DoesNotOpen))
            }
            Self::Internal(Internal::InconsistentRow(_)) => {
                Some(Outcome::Failed(Failure::InconsistentRow))
            }
            Self::InvalidInput(_)
            | Self::RateLimited(_)
            | Self::Interrupted(_)
            | Self::Unauthenticated(
                Unauthenticated::NoAuthorization
                | Unauthenticated::ApiKey
                | Unauthenticated::NoGrantToken
                | Unauthenticated::InvalidGrant
                | Unauthenticated::WebhookSignature,
            )
            | Self::Unavailable(
                Unavailable::Database(_) | Unavailable::Audit(_) | Unavailable::IssuerKeys,
            ) => None,
        }
    }

    /// Logs what somebody must act on: an error when a row was tampered with or damaged, a warning
    /// while something is unavailable. Called once, where the failure is answered.
    pub fn log(&self, request: RequestContext) {
        let request_id = request.id;
        match self {
            Self::Unavailable(what) => {
                tracing::warn!(%request_id, cause = what.chain(), "unavailable");
            }
            Self::Internal(Internal::DoesNotOpen { credential, fault }) => {
                let credential_id = credential.map(tracing::field::display);
                tracing::error!(%request_id, credential_id, %fault, "a stored credential does not open");
            }
            Self::Internal(Internal::InconsistentRow(fault)) => {
                tracing::error!(%request_id, cause = chain(fault), "a stored row is inconsistent");
            }
            Self::InvalidInput(_)
            | Self::Unauthenticated(_)
            | Self::OutOfScope { .. }
            | Self::AgentNotAllowed { .. }
            | Self::RateLimited(_)
            // The listener's line has these, and the panic's own has a panic.
            | Self::Interrupted(_)
            | Self::NotFound(_) => {}
        }
    }
}

impl Unavailable {
    fn chain(&self) -> String {
        match self {
            Self::Database(fault) | Self::RetiredMasterKey(fault) => chain(fault),
            Self::Audit(fault) => chain(fault),
            Self::MasterKey(fault) => chain(&**fault),
            Self::IssuerKeys => "the issuer's keys cannot be had".into(),
        }
    }
}

impl From<InvalidInput> for VaultError {
    fn from(invalid: InvalidInput) -> Self {
        Self::InvalidInput(invalid)
    }
}

impl From<Exceeded> for VaultError {
    fn from(exceeded: Exceeded) -> Self {
        Self::RateLimited(exceeded)
    }
}

impl From<StoreFault> for VaultError {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Unavailable(_) | StoreFault::Overloaded | StoreFault::Refused(_) => {
                Self::Unavailable(Unavailable::Database(fault))
            }
            StoreFault::RetiredMasterKey(_) => {
                Self::Unavailable(Unavailable::RetiredMasterKey(fault))
            }
            StoreFault::InvalidApiKey => Self::Unauthenticated(Unauthenticated::ApiKey),
            StoreFault::Inconsistent { .. } => Self::Internal(Internal::InconsistentRow(fault)),
        }
    }
}

impl From<Unrecorded> for VaultError {
    fn from(unrecorded: Unrecorded) -> Self {
        Self::Unavailable(Unavailable::Audit(unrecorded))
    }
}

impl VaultError {
    pub(super) fn from_envelope(error: EnvelopeError, credential: Option<CredentialId>) -> Self {
        match error {
            EnvelopeError::MasterKey(fault) => Self::Unavailable(Unavailable::MasterKey(fault)),
            EnvelopeError::DoesNotOpen(fault) => {
                Self::Internal(Internal::DoesNotOpen { credential, fault })
            }
        }
    }
}
