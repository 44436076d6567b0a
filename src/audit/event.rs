//! What an audit event says. Never a token, never a hash of one.

use super::canonical::{Fields, RecordedAgent, RecordedCaller, RecordedEvent};
use crate::{
    model::{
        caller::Developer,
        event_filter::OutcomeName,
        id::{ApiKeyId, CredentialId, EventId},
        request::{Operation, RequestContext, Verb},
        sealed::MasterKeyId,
        service_name::ServiceName,
        text::{
            AgentId, ClientId, DeveloperId, GrantId, Issuer, OperatorName, PrincipalId, TokenId,
            WebhookEventId,
        },
        timestamp::Timestamp,
    },
    store::audit_events::AuditEventRow,
};

/// One verb of one caller, or one operation.
#[derive(Debug, Clone)]
pub struct AuditEvent {
    /// The request that it was part of.
    pub request: RequestContext,
    /// Whose credentials it was about; `None` of an operation that is about no developer.
    pub developer: Option<DeveloperId>,
    /// Who asked.
    pub caller: Caller,
    /// What was asked.
    pub asked: Asked,
    /// What became of it.
    pub outcome: Outcome,
    /// Whose credential, as far as it is known.
    pub principal: Option<PrincipalId>,
    /// For which service, as the caller spelled it or as it is stored.
    pub service: Option<ServiceName>,
    /// Which credential, when there was one.
    pub credential: Option<CredentialId>,
    /// What an operation was about.
    pub subject: Option<Subject>,
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says what it is")]
pub enum Asked {
    Verb(Verb),
    Operation(Operation),
}

/// What an operation was about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says what it is")]
pub enum Subject {
    Grant(GrantId),
    Token(TokenId),
    ApiKey(ApiKeyId),
    MasterKey(MasterKeyId),
}

/// A verified caller. Those who cannot be verified are not recorded: anybody can make them up.
#[derive(Debug, Clone)]
pub enum Caller {
    /// A developer, by an API key; keys of another authority have no name.
    Developer(Option<ApiKeyId>),
    /// An agent, by a grant.
    Agent {
        /// Its DID.
        agent: AgentId,
        /// Who signed the token.
        issuer: Issuer,
        /// Its client at the issuer, when the token names it.
        client: Option<ClientId>,
        /// The token that it presented.
        token: TokenId,
        /// The grant of the token.
        grant: GrantId,
        /// The grant that was delegated from.
        parent_grant: Option<GrantId>,
        /// How many delegations deep, as the token claims.
        delegation_depth: Option<i64>,
        /// The agents that delegated, first to last, as far as the token names them.
        delegation: Vec<AgentId>,
    },
    /// An operator, on their listener or the command line.
    Operator(OperatorName),
    /// A Grantex auth service, by a signed webhook.
    Webhook(WebhookEventId),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A secret was allowed to leave. Whether it arrived is not ours to know.
    Released,
    /// A new credential.
    Stored,
    /// A credential in the place of another.
    Replaced,
    /// A credential is gone.
    Deleted,
    /// Descriptions were allowed to leave.
    Listed,
    /// One description was.
    Read,
    /// A verified caller was refused.
    Denied(Denial),
    /// There was no such credential.
    NotFound,
    /// The vault could not.
    Failed(Failure),
    /// An operation changed what it was to change.
    Done,
    /// It was so already.
    Unchanged,
}

/// Why a verified caller was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says what it is")]
pub enum Denial {
    GrantRevoked,
    OutOfScope,
    AgentNotAllowed,
    UnknownOperator,
}

/// Why the vault could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says what it is")]
pub enum Failure {
    MasterKeyUnavailable,
    DoesNotOpen,
    InconsistentRow,
    /// A master key that was to be retired wraps something still.
    MasterKeyNeeded,
}

impl AuditEvent {
    /// What a developer asked; more is filled in as it becomes known.
    #[must_use]
    pub fn by_developer(
        request: RequestContext,
        developer: &Developer,
        verb: Verb,
        outcome: Outcome,
    ) -> Self {
        Self {
            request,
            developer: Some(developer.id.clone()),
            caller: Caller::Developer(developer.api_key_id),
            asked: Asked::Verb(verb),
            outcome,
            principal: None,
            service: None,
            credential: None,
            subject: None,
        }
    }

    /// What an operator or a webhook asked; done, unless its outcome is set to something else.
    #[must_use]
    pub fn of_operation(
        request: RequestContext,
        caller: Caller,
        operation: Operation,
        developer: Option<&DeveloperId>,
        subject: Option<Subject>,
    ) -> Self {
        Self {
            request,
            developer: developer.cloned(),
            caller,
            asked: Asked::Operation(operation),
            outcome: Outcome::Done,
            principal: None,
            service: None,
            credential: None,
            subject,
        }
    }

    /// As it is stored, with an id of this moment.
    pub(super) fn to_row(&self, now: Timestamp) -> AuditEventRow {
        self.row_of(EventId::make(now), now)
    }

    /// As it is stored when a credential of this id is new, and when it takes the place of the one that is
    /// kept, if that is known.
    pub(super) fn to_rows_of_write(
        &self,
        new: CredentialId,
        kept: Option<CredentialId>,
        now: Timestamp,
    ) -> (AuditEventRow, Option<AuditEventRow>) {
        let id = EventId::make(now);
        let row = |outcome, credential| {
            let event = Self {
                outcome,
                credential: Some(credential),
                ..self.clone()
            };
            event.row_of(id, now)
        };
        let replaced = kept.map(|kept| row(Outcome::Replaced, kept));
        (row(Outcome::Stored, new), replaced)
    }

    fn row_of(&self, id: EventId, now: Timestamp) -> AuditEventRow {
        let (outcome, reason) = self.outcome.as_columns();
        let outcome = outcome.as_str();
        let recorded = RecordedEvent::new(Fields {
            developer_id: self.developer.as_ref().map_or("", DeveloperId::as_str),
            id,
            occurred_at: now.to_string(),
            verb: self.asked.as_str(),
            outcome,
            reason,
            principal_id: self.principal.as_ref().map(PrincipalId::as_str),
            service: self.service.as_ref().map(ServiceName::as_str),
            credential_id: self.credential.map(|id| id.to_string()),
            caller: self.caller.recorded(),
            request_id: self.request.id.to_string(),
            trace_id: self.request.trace.map(|trace| trace.to_string()),
            peer: self.request.peer.to_string(),
            transport: self.request.transport.as_str(),
            subject: self.subject.as_ref().map(Subject::to_text),
        });
        AuditEventRow {
            developer: self.developer.clone(),
            id,
            principal: self.principal.clone(),
            service: self.service.as_ref().map(|name| name.key().clone()),
            credential: self.credential,
            grant: self.grant().cloned(),
            outcome,
            canonical: recorded.to_bytes(),
        }
    }

    /// The grant that was asked with, or that was revoked.
    fn grant(&self) -> Option<&GrantId> {
        match (&self.caller, &self.subject) {
            (Caller::Agent { grant, .. }, _) | (_, Some(Subject::Grant(grant))) => Some(grant),
            _ => None,
        }
    }
}

// === impl Asked ===

impl Asked {
    fn as_str(self) -> &'static str {
        match self {
            Self::Verb(verb) => verb.as_str(),
            Self::Operation(operation) => operation.as_str(),
        }
    }
}

// === impl Subject ===

impl Subject {
    fn to_text(&self) -> String {
        match self {
            Self::Grant(grant) => grant.to_string(),
            Self::Token(token) => token.to_string(),
            Self::ApiKey(key) => key.to_string(),
            Self::MasterKey(key) => key.to_string(),
        }
    }
}

// === impl Caller ===

impl Caller {
    fn recorded(&self) -> RecordedCaller<'_> {
        match self {
            Self::Developer(api_key) => RecordedCaller::Developer {
                api_key_id: api_key.map(|key| key.to_string().into()),
            },
            Self::Agent {
                agent,
                issuer,
                client,
                token,
                grant,
                parent_grant,
                delegation_depth,
                delegation,
            } => RecordedCaller::Agent(RecordedAgent {
                agent: agent.as_str().into(),
                issuer: issuer.as_str().into(),
                client_id: client.as_ref().map(|client| client.as_str().into()),
                grant_id: grant.as_str().into(),
                token_id: token.as_str().into(),
                parent_agent: delegation.last().map(|agent| agent.as_str().into()),
                parent_grant_id: parent_grant.as_ref().map(|grant| grant.as_str().into()),
                delegation_depth: *delegation_depth,
                delegation: delegation
                    .iter()
                    .map(|agent| agent.as_str().into())
                    .collect(),
            }),
            Self::Operator(name) => RecordedCaller::Operator {
                operator: name.as_str().into(),
            },
            Self::Webhook(event) => RecordedCaller::Webhook {
                webhook_event_id: event.as_str().into(),
            },
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn as_columns(self) -> (OutcomeName, Option<&'static str>) {
        match self {
            Self::Released => (OutcomeName::Released, None),
            Self::Stored => (OutcomeName::Stored, None),
            Self::Replaced => (OutcomeName::Replaced, None),
            Self::Deleted => (OutcomeName::Deleted, None),
            Self::Listed => (OutcomeName::Listed, None),
            Self::Read => (OutcomeName::Read, None),
            Self::Denied(Denial::GrantRevoked) => (OutcomeName::Denied, Some("grant_revoked")),
            Self::Denied(Denial::OutOfScope) => (OutcomeName::Denied, Some("out_of_scope")),
            Self::Denied(Denial::AgentNotAllowed) => {
                (OutcomeName::Denied, Some("agent_not_allowed"))
            }
            Self::Denied(Denial::UnknownOperator) => {
                (OutcomeName::Denied, Some("unknown_operator"))
            }
            Self::NotFound => (OutcomeName::NotFound, None),
            Self::Failed(Failure::MasterKeyUnavailable) => {
                (OutcomeName::Failed, Some("master_key_unavailable"))
            }
            Self::Failed(Failure::DoesNotOpen) => (OutcomeName::Failed, Some("does_not_open")),
            Self::Failed(Failure::InconsistentRow) => {
                (OutcomeName::Failed, Some("inconsistent_row"))
            }
            Self::Failed(Failure::MasterKeyNeeded) => {
                (OutcomeName::Failed, Some("master_key_needed"))
            }
            Self::Done => (OutcomeName::Done, None),
            Self::Unchanged => (OutcomeName::Unchanged, None),
        }
    }
}
