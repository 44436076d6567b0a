//! One request, apart from what it asks: what logs and audit events say of it.

use std::{fmt, net::IpAddr, num::NonZeroU128, time::Duration};

use uuid::Uuid;

/// Through which door a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// gRPC.
    Grpc,
    /// HTTP and JSON.
    Rest,
    /// No door at all: an operator's command line.
    CommandLine,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the verbs of the API")]
pub enum Verb {
    Store,
    List,
    Get,
    Delete,
    Exchange,
    Audit,
    /// What a Grantex auth service tells; over REST only.
    Webhook,
}

/// What an operator asks for, and a webhook some of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "calls of `AdminService`, commands of the command line"
)]
pub enum Operation {
    CreateDeveloper,
    ListDevelopers,
    SuspendDeveloper,
    ResumeDeveloper,
    DeleteDeveloper,
    CreateApiKey,
    ListApiKeys,
    RevokeApiKey,
    RevokeGrant,
    RevokeToken,
    ListRevocations,
    SetWebhookSecret,
    ListWebhookSecrets,
    RemoveWebhookSecret,
    PurgeDataKeys,
    ShowMasterKeys,
    Import,
    Rewrap,
    Reencrypt,
    VerifyCredentials,
    RetireMasterKey,
    AddKeyringKey,
    SetKeyringPrimary,
    RemoveKeyringKey,
    ListAuditEvents,
    TailAuditEvents,
    ExportAuditEvents,
    PruneAuditEvents,
    /// What whoever is not known as an operator fails at.
    LogIn,
}

/// The trace that a request is part of (W3C Trace Context, `trace-id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(NonZeroU128);

/// A request's identity.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext {
    /// Repeated to the caller in `X-Request-Id`.
    pub id: Uuid,
    /// The caller's trace, or the one that begins here.
    pub trace: Option<TraceId>,
    /// The door.
    pub transport: Transport,
    /// Whose it is: the other end of the connection, or whom a trusted proxy names.
    pub peer: IpAddr,
}

/// What a caller may still ask for, where there is a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How many requests in a burst.
    pub limit: u32,
    /// How many are left of it.
    pub remaining: u32,
    /// When all of it is there again.
    pub full_in: Duration,
}

/// Why no handler answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// Too many are under way.
    Overloaded,
    /// Too many of its caller are under way, and others wait.
    OverShare,
    /// It took longer than the server allows.
    TimedOut,
    /// It took longer than its caller allows (`grpc-timeout`).
    DeadlineExceeded,
    /// Its handler panicked.
    Panicked,
}

/// Stands among the extensions of an answer that refuses the request's own form, such as a message that
/// is too large: whatever its gRPC code says, nobody was limited and nothing is wrong here.
#[derive(Debug, Clone, Copy)]
pub struct RejectedMessage;

/// Stands among the extensions of an answer whose caller was authenticated.
#[derive(Debug, Clone, Copy)]
pub struct KnownCaller;

impl Transport {
    /// The name in logs and audit events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
            Self::CommandLine => "command_line",
        }
    }
}

// === impl TraceId ===

impl TraceId {
    /// `None` for zero, which is no trace.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        NonZeroU128::new(u128::from_be_bytes(bytes)).map(Self)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

// === impl Verb ===

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 7] = [
        Self::Store,
        Self::List,
        Self::Get,
        Self::Delete,
        Self::Exchange,
        Self::Audit,
        Self::Webhook,
    ];

    /// The name in logs, metrics and audit events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::List => "list",
            Self::Get => "get",
            Self::Delete => "delete",
            Self::Exchange => "exchange",
            Self::Audit => "audit",
            Self::Webhook => "webhook",
        }
    }
}

// === impl Operation ===

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 29] = [
        Self::CreateDeveloper,
        Self::ListDevelopers,
        Self::SuspendDeveloper,
        Self::ResumeDeveloper,
        Self::DeleteDeveloper,
        Self::CreateApiKey,
        Self::ListApiKeys,
        Self::RevokeApiKey,
        Self::RevokeGrant,
        Self::RevokeToken,
        Self::ListRevocations,
        Self::SetWebhookSecret,
        Self::ListWebhookSecrets,
        Self::RemoveWebhookSecret,
        Self::PurgeDataKeys,
        Self::ShowMasterKeys,
        Self::Import,
        Self::Rewrap,
        Self::Reencrypt,
        Self::VerifyCredentials,
        Self::RetireMasterKey,
        Self::AddKeyringKey,
        Self::SetKeyringPrimary,
        Self::RemoveKeyringKey,
        Self::ListAuditEvents,
        Self::TailAuditEvents,
        Self::ExportAuditEvents,
        Self::PruneAuditEvents,
        Self::LogIn,
    ];

    /// The name in logs and audit events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateDeveloper => "create_developer",
            Self::ListDevelopers => "list_developers",
            Self::SuspendDeveloper => "suspend_developer",
            Self::ResumeDeveloper => "resume_developer",
            Self::DeleteDeveloper => "delete_developer",
            Self::CreateApiKey => "create_api_key",
            Self::ListApiKeys => "list_api_keys",
            Self::RevokeApiKey => "revoke_api_key",
            Self::RevokeGrant => "revoke_grant",
            Self::RevokeToken => "revoke_token",
            Self::ListRevocations => "list_revocations",
            Self::SetWebhookSecret => "set_webhook_secret",
            Self::ListWebhookSecrets => "list_webhook_secrets",
            Self::RemoveWebhookSecret => "remove_webhook_secret",
            Self::PurgeDataKeys => "purge_data_keys",
            Self::ShowMasterKeys => "show_master_keys",
            Self::Import => "import",
            Self::Rewrap => "rewrap",
            Self::Reencrypt => "reencrypt",
            Self::VerifyCredentials => "verify_credentials",
            Self::RetireMasterKey => "retire_master_key",
            Self::AddKeyringKey => "add_keyring_key",
            Self::SetKeyringPrimary => "set_keyring_primary",
            Self::RemoveKeyringKey => "remove_keyring_key",
            Self::ListAuditEvents => "list_audit_events",
            Self::TailAuditEvents => "tail_audit_events",
            Self::ExportAuditEvents => "export_audit_events",
            Self::PruneAuditEvents => "prune_audit_events",
            Self::LogIn => "log_in",
        }
    }
}

/// A caller's own request id, kept when it has the 8-4-4-4-12 form (RFC 9562, section 4).
#[must_use]
pub fn parse_request_id(text: &str) -> Option<Uuid> {
    // `Uuid` reads four other forms too: the length admits only this one.
    (text.len() == uuid::fmt::Hyphenated::LENGTH)
        .then(|| Uuid::parse_str(text).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_form_is_kept() {
        assert!(parse_request_id("67e55044-10b1-426f-9247-bb680e5fe0c8").is_some());
        assert!(parse_request_id("67E55044-10B1-426F-9247-BB680E5FE0C8").is_some());
        for text in [
            "",
            "67e5504410b1426f9247bb680e5fe0c8",
            "{67e55044-10b1-426f-9247-bb680e5fe0c8}",
            "x",
        ] {
            assert!(parse_request_id(text).is_none(), "{text}");
        }
    }
}
