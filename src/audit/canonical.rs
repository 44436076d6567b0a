//! The bytes of an event: what is stored, hashed and sealed. `docs/audit.md` describes them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::model::{id::EventId, request::Operation};

/// The version that is written.
const VERSION: u8 = 1;
/// What nearly all events fit into: growing to it would copy them twice.
const USUAL_BYTES: usize = 768;

/// An event as it was recorded: JSON in this order of keys, without white space, in UTF-8, every key
/// but the last always there. Texts are those that were recorded; a reader parses none of them further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "`AuditEvent` and the proto describe them")]
pub struct RecordedEvent<'a> {
    /// Of this form.
    version: u8,
    #[serde(borrow)]
    pub developer_id: Cow<'a, str>,
    pub id: Cow<'a, str>,
    pub occurred_at: Cow<'a, str>,
    pub verb: Cow<'a, str>,
    pub outcome: Cow<'a, str>,
    pub reason: Option<Cow<'a, str>>,
    pub principal_id: Option<Cow<'a, str>>,
    pub service: Option<Cow<'a, str>>,
    pub credential_id: Option<Cow<'a, str>>,
    pub caller: RecordedCaller<'a>,
    pub request_id: Cow<'a, str>,
    pub trace_id: Option<Cow<'a, str>>,
    pub peer: Cow<'a, str>,
    pub transport: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Cow<'a, str>>,
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "`Caller` and the proto describe them")]
pub enum RecordedCaller<'a> {
    /// A developer, by an API key; keys of another authority have no name.
    Developer {
        #[serde(borrow)]
        api_key_id: Option<Cow<'a, str>>,
    },
    /// An agent, by a grant.
    #[serde(borrow)]
    Agent(RecordedAgent<'a>),
    /// An operator.
    Operator {
        #[serde(borrow)]
        operator: Cow<'a, str>,
    },
    /// A Grantex auth service, by a webhook.
    Webhook {
        #[serde(borrow)]
        webhook_event_id: Cow<'a, str>,
    },
}

/// An agent, by a grant token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "`Caller` and the proto describe them")]
pub struct RecordedAgent<'a> {
    #[serde(borrow)]
    pub agent: Cow<'a, str>,
    pub issuer: Cow<'a, str>,
    pub client_id: Option<Cow<'a, str>>,
    pub grant_id: Cow<'a, str>,
    pub token_id: Cow<'a, str>,
    pub parent_agent: Option<Cow<'a, str>>,
    pub parent_grant_id: Option<Cow<'a, str>>,
    pub delegation_depth: Option<i64>,
    pub delegation: Vec<Cow<'a, str>>,
}

/// The bytes are not those that the vault writes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not the canonical bytes of an event")]
pub struct NotCanonical;

/// What is filled in by whoever records.
pub(super) struct Fields<'a> {
    pub(super) developer_id: &'a str,
    pub(super) id: EventId,
    pub(super) occurred_at: String,
    pub(super) verb: &'static str,
    pub(super) outcome: &'static str,
    pub(super) reason: Option<&'static str>,
    pub(super) principal_id: Option<&'a str>,
    pub(super) service: Option<&'a str>,
    pub(super) credential_id: Option<String>,
    pub(super) caller: RecordedCaller<'a>,
    pub(super) request_id: String,
    pub(super) trace_id: Option<String>,
    pub(super) peer: String,
    pub(super) transport: &'static str,
    pub(super) subject: Option<String>,
}

impl<'a> RecordedEvent<'a> {
    pub(super) fn new(fields: Fields<'a>) -> Self {
        Self {
            version: VERSION,
            developer_id: fields.developer_id.into(),
            id: fields.id.to_string().into(),
            occurred_at: fields.occurred_at.into(),
            verb: fields.verb.into(),
            outcome: fields.outcome.into(),
            reason: fields.reason.map(Cow::from),
            principal_id: fields.principal_id.map(Cow::from),
            service: fields.service.map(Cow::from),
            credential_id: fields.credential_id.map(Cow::from),
            caller: fields.caller,
            request_id: fields.request_id.into(),
            trace_id: fields.trace_id.map(Cow::from),
            peer: fields.peer.into(),
            transport: fields.transport.into(),
            subject: fields.subject.map(Cow::from),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        serde_json::to_writer(&mut bytes, self).expect("texts and numbers serialise");
        bytes
    }

    /// Reads the bytes. One event has one form: bytes that say the same otherwise are refused.
    ///
    /// # Errors
    ///
    /// When they are not what [`Self::to_bytes`] makes of any event.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotCanonical> {
        let event: Self = serde_json::from_slice(bytes).map_err(|_| NotCanonical)?;
        let canonical = event.version == VERSION && event.to_bytes() == bytes;
        canonical.then_some(event).ok_or(NotCanonical)
    }

    /// The same, of texts of its own.
    #[must_use]
    pub fn into_owned(self) -> RecordedEvent<'static> {
        let owned = |text: Cow<'a, str>| Cow::from(text.into_owned());
        RecordedEvent {
            version: self.version,
            developer_id: owned(self.developer_id),
            id: owned(self.id),
            occurred_at: owned(self.occurred_at),
            verb: owned(self.verb),
            outcome: owned(self.outcome),
            reason: self.reason.map(owned),
            principal_id: self.principal_id.map(owned),
            service: self.service.map(owned),
            credential_id: self.credential_id.map(owned),
            caller: match self.caller {
                RecordedCaller::Developer { api_key_id } => RecordedCaller::Developer {
                    api_key_id: api_key_id.map(owned),
                },
                RecordedCaller::Agent(agent) => RecordedCaller::Agent(agent.into_owned()),
                RecordedCaller::Operator { operator } => RecordedCaller::Operator {
                    operator: owned(operator),
                },
                RecordedCaller::Webhook { webhook_event_id } => RecordedCaller::Webhook {
                    webhook_event_id: owned(webhook_event_id),
                },
            },
            request_id: owned(self.request_id),
            trace_id: self.trace_id.map(owned),
            peer: owned(self.peer),
            transport: owned(self.transport),
            subject: self.subject.map(owned),
        }
    }

    /// The grant that an agent asked with, or that was revoked.
    #[must_use]
    pub fn grant_id(&self) -> Option<&str> {
        match &self.caller {
            RecordedCaller::Agent(agent) => Some(&agent.grant_id),
            _ if self.verb == Operation::RevokeGrant.as_str() => self.subject.as_deref(),
            _ => None,
        }
    }

    /// What the service compares by.
    #[must_use]
    pub fn service_key(&self) -> Option<String> {
        self.service.as_ref().map(|name| name.to_ascii_lowercase())
    }
}

/// What a seal holds of an event.
#[must_use]
pub fn hash(canonical: &[u8]) -> [u8; 32] {
    Sha256::digest(canonical).into()
}

// === impl RecordedAgent ===

impl RecordedAgent<'_> {
    fn into_owned(self) -> RecordedAgent<'static> {
        let owned = |text: Cow<'_, str>| Cow::from(text.into_owned());
        RecordedAgent {
            agent: owned(self.agent),
            issuer: owned(self.issuer),
            client_id: self.client_id.map(owned),
            grant_id: owned(self.grant_id),
            token_id: owned(self.token_id),
            parent_agent: self.parent_agent.map(owned),
            parent_grant_id: self.parent_grant_id.map(owned),
            delegation_depth: self.delegation_depth,
            delegation: self.delegation.into_iter().map(owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    fn text() -> impl Strategy<Value = Cow<'static, str>> {
        any::<String>().prop_map(Cow::from)
    }

    fn caller() -> impl Strategy<Value = RecordedCaller<'static>> {
        let developer =
            option::of(text()).prop_map(|api_key_id| RecordedCaller::Developer { api_key_id });
        let required = proptest::array::uniform4(text());
        let optional = proptest::array::uniform3(option::of(text()));
        let delegation = (
            any::<Option<i64>>(),
            proptest::collection::vec(text(), 0..4),
        );
        let agent = (required, optional, delegation).prop_map(
            |(required, optional, (delegation_depth, delegation))| {
                let [agent, issuer, grant_id, token_id] = required;
                let [client_id, parent_agent, parent_grant_id] = optional;
                RecordedCaller::Agent(RecordedAgent {
                    agent,
                    issuer,
                    client_id,
                    grant_id,
                    token_id,
                    parent_agent,
                    parent_grant_id,
                    delegation_depth,
                    delegation,
                })
            },
        );
        let operator = text().prop_map(|operator| RecordedCaller::Operator { operator });
        let webhook =
            text().prop_map(|webhook_event_id| RecordedCaller::Webhook { webhook_event_id });
        prop_oneof![developer, agent, operator, webhook]
    }

    fn event() -> impl Strategy<Value = RecordedEvent<'static>> {
        let required = proptest::array::uniform8(text());
        let optional = proptest::array::uniform6(option::of(text()));
        (required, optional, caller()).prop_map(|(required, optional, caller)| {
            let [
                developer_id,
                id,
                occurred_at,
                verb,
                outcome,
                request_id,
                peer,
                transport,
            ] = required;
            let [
                reason,
                principal_id,
                service,
                credential_id,
                trace_id,
                subject,
            ] = optional;
            RecordedEvent {
                version: VERSION,
                developer_id,
                id,
                occurred_at,
                verb,
                outcome,
                reason,
                principal_id,
                service,
                credential_id,
                caller,
                request_id,
                trace_id,
                peer,
                transport,
                subject,
            }
        })
    }

    proptest! {
        #[test]
        fn every_event_has_one_form_and_is_read_back_from_it(event in event()) {
            let bytes = event.to_bytes();
            prop_assert_eq!(RecordedEvent::parse(&bytes), Ok(event));
        }

        #[test]
        fn different_events_have_different_bytes(one in event(), two in event()) {
            prop_assume!(one != two);
            prop_assert_ne!(one.to_bytes(), two.to_bytes());
        }

        #[test]
        fn other_bytes_are_no_event_or_another(
            event in event(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = event.to_bytes();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            if let Ok(other) = RecordedEvent::parse(&bytes) {
                prop_assert_ne!(other, event);
            }
        }
    }

    #[test]
    fn the_same_said_otherwise_is_refused() {
        let bytes = br#"{"version":1,"developerId":"acme","id":"01","occurredAt":"t","verb":"get","outcome":"read","reason":null,"principalId":null,"service":"GitHub","credentialId":null,"caller":{"apiKeyId":"ak"},"requestId":"r","traceId":null,"peer":"p","transport":"rest"}"#;
        let event = RecordedEvent::parse(bytes).unwrap();
        assert_eq!(event.service_key().as_deref(), Some("github"));
        let text = std::str::from_utf8(bytes).unwrap();
        for (from, to) in [
            (r#""version":1"#, r#""version":2"#),
            (r#""version":1,"#, r#""version": 1,"#),
            (r#""reason":null,"#, ""),
            (r#""acme""#, r#""\u0061cme""#),
            (r#""apiKeyId":"ak""#, r#""apiKeyId":"ak","agent":null"#),
            (r#""rest"}"#, r#""rest","subject":null}"#),
            (
                r#""peer":"p","transport":"rest""#,
                r#""transport":"rest","peer":"p""#,
            ),
        ] {
            let other = text.replace(from, to);
            assert_ne!(other, text);
            assert_eq!(
                RecordedEvent::parse(other.as_bytes()),
                Err(NotCanonical),
                "{other}"
            );
        }
    }
}
