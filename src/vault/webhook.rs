//! Webhook: a Grantex auth service says that a grant was revoked.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

use super::{
    Vault,
    error::{Unauthenticated, VaultError},
};
use crate::{
    audit::event::{AuditEvent, Caller, Outcome, Subject},
    auth::webhook::{SignatureHeaders, WebhookSignature},
    limits::{BodyError, BodyLimits, read_under},
    model::{
        id::WebhookSecretId,
        invalid::InvalidInput,
        json::{Json, JsonFault, Members},
        request::{Operation, RequestContext},
        revocation::{Revocation, Revoked},
        text::{DeveloperId, GrantId, TextFault, WebhookEventId},
    },
    permits::Permit,
    store::{Ended, StoreFault},
    underway::{self, CallerKind},
};

/// The one type of event that changes something.
const GRANT_REVOKED: &str = "grant.revoked";

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A webhook whose headers could be those of a Grantex auth service. Whether they are is known once
/// its body is. However it ends before that, its address is charged with it.
pub struct UnverifiedWebhook<'a> {
    vault: &'a Vault,
    request: RequestContext,
    developer: DeveloperId,
    signature: WebhookSignature,
    permit: Permit,
    /// Its sender is known, or its address was charged.
    is_settled: bool,
}

/// What a webhook says.
struct Event {
    id: WebhookEventId,
    /// `None` of another type than [`GRANT_REVOKED`].
    grant: Option<GrantId>,
}

impl Vault {
    /// Looks at the headers of a webhook, before its body is read, and takes one of the few permits
    /// that there are for those whose sender is unknown.
    ///
    /// # Errors
    ///
    /// Unauthenticated, or rate limited when the address has failed too often; interrupted.
    pub async fn unverified_webhook(
        &self,
        request: RequestContext,
        developer: &str,
        headers: &SignatureHeaders<'_>,
    ) -> Result<UnverifiedWebhook<'_>, VaultError> {
        let now = self.clock.now();
        let signature = WebhookSignature::parse(headers, self.webhook_signatures, now);
        let developer = DeveloperId::parse(developer).ok();
        let (Some(developer), Some(signature)) = (developer, signature) else {
            return Err(self.counted(request, UNSIGNED));
        };
        let permit = self.limits.in_flight.webhook(request.peer).await;
        Ok(UnverifiedWebhook {
            vault: self,
            request,
            developer,
            signature,
            permit: permit.map_err(VaultError::Interrupted)?,
            is_settled: false,
        })
    }

    /// Does what a webhook says: revokes the grant that it names. Doing it again changes nothing, and
    /// events of other types are none of the vault's business.
    ///
    /// `cascade` needs no more: an exchange looks for the grant that its own was delegated from.
    ///
    /// # Errors
    ///
    /// Unauthenticated, alike for a developer that has no secret; invalid input; unavailable.
    pub async fn grantex_webhook(
        &self,
        mut webhook: UnverifiedWebhook<'_>,
        body: &[u8],
    ) -> Result<(), VaultError> {
        let signed_with = self.signed_with(&webhook, body).await;
        webhook.is_settled = true;
        let Some(secret) = signed_with? else {
            return Err(self.counted(webhook.request, UNSIGNED));
        };
        underway::called_by(CallerKind::Webhook);
        let _permit = self.permit(&webhook.developer).await?;
        let Event { id, grant } = event(body)?;
        match grant {
            Some(grant) => {
                let is_revoked = self.revoke_by_webhook(&webhook, secret, id, grant).await?;
                is_revoked.ok_or_else(|| self.counted(webhook.request, UNSIGNED))
            }
            None => Ok(()),
        }
    }

    /// The secret of its developer that it is signed with, if it is.
    async fn signed_with(
        &self,
        webhook: &UnverifiedWebhook<'_>,
        body: &[u8],
    ) -> Result<Option<WebhookSecretId>, VaultError> {
        let developer = &webhook.developer;
        for sealed in self.store.webhook_secrets(developer).await? {
            let secret = self.envelope.open_webhook_secret(developer, &sealed).await;
            let secret = secret.map_err(|error| {
                let error = VaultError::from_envelope(error, None);
                if let VaultError::Internal(_) = error {
                    self.metrics.tampered();
                }
                error
            })?;
            if webhook.signature.is_of(&secret, body) {
                return Ok(Some(sealed.id));
            }
        }
        Ok(None)
    }

    /// `None` when the secret that it was signed with was removed meanwhile.
    async fn revoke_by_webhook(
        &self,
        webhook: &UnverifiedWebhook<'_>,
        secret: WebhookSecretId,
        id: WebhookEventId,
        grant: GrantId,
    ) -> Result<Option<()>, VaultError> {
        let developer = &webhook.developer;
        let mut event = AuditEvent::of_operation(
            webhook.request,
            Caller::Webhook(id),
            Operation::RevokeGrant,
            Some(developer),
            Some(Subject::Grant(grant.clone())),
        );
        let revoked_at = self.clock.now();
        // The issuer gives no more tokens for it.
        let longest = self.grants.max_token_lifetime();
        let revocation = Revocation {
            what: Revoked::Grant(grant),
            revoked_at,
            expires_at: longest.and_then(|lifetime| revoked_at.after(lifetime).ok()),
        };
        let mut connection = self.store.connection().await?;
        let transaction = connection.transaction().await?;
        if !transaction.keep_webhook_secret(developer, secret).await? {
            return Ok(None);
        }
        if !transaction.revoke(developer, &revocation).await? {
            event.outcome = Outcome::Unchanged;
        }
        self.journal.commit(transaction, &event).await?;
        drop(connection);
        match self.store.earlier_requests_have_ended().await? {
            Ended::All => Ok(Some(())),
            // Whoever sent it sends it again.
            Ended::NotYet => Err(StoreFault::Overloaded.into()),
        }
    }
}

// === impl UnverifiedWebhook ===

impl UnverifiedWebhook<'_> {
    /// Reads its body.
    ///
    /// # Errors
    ///
    /// [`BodyError`].
    pub async fn read_body<B>(&self, body: B, max_bytes: usize) -> Result<Bytes, BodyError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let limits = BodyLimits {
            max_bytes,
            time: BODY_TIMEOUT,
        };
        read_under(&self.permit, body, limits).await
    }
}

impl Drop for UnverifiedWebhook<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            // It is answered what is wrong with it, if anybody is left to be answered.
            let _ = self.vault.counted(self.request, UNSIGNED);
        }
    }
}

const UNSIGNED: VaultError = VaultError::Unauthenticated(Unauthenticated::WebhookSignature);

/// Reads `{"id","type","createdAt","data":{"grantId","cascade"}}`; what else is there is ignored.
fn event(body: &[u8]) -> Result<Event, InvalidInput> {
    let members = Members::split(body).map_err(broken("body"))?;
    let id = required("id", text(&members, "id")?)?;
    let id = WebhookEventId::parse(&id).map_err(breaks("id"))?;
    if required("type", text(&members, "type")?)? != GRANT_REVOKED {
        return Ok(Event { id, grant: None });
    }
    let data = members.get("data").map_err(broken("data"))?;
    let grant = match data {
        Some(Json::Object(data)) => data.into_iter().find(|(name, _)| name == "grantId"),
        _ => return Err(InvalidInput::breaks("data", "must be an object")),
    };
    let Some((_, Json::String(grant))) = grant else {
        return Err(InvalidInput::breaks("data.grantId", "must be a string"));
    };
    let grant = GrantId::parse(&grant).map_err(breaks("data.grantId"))?;
    Ok(Event {
        id,
        grant: Some(grant),
    })
}

fn text(members: &Members<'_>, field: &'static str) -> Result<Option<String>, InvalidInput> {
    match members.get(field).map_err(broken(field))? {
        Some(Json::String(text)) => Ok(Some(text)),
        None | Some(Json::Null) => Ok(None),
        Some(_) => Err(InvalidInput::breaks(field, "must be a string")),
    }
}

fn required(field: &'static str, text: Option<String>) -> Result<String, InvalidInput> {
    text.ok_or_else(|| InvalidInput::breaks(field, "is required"))
}

fn broken(field: &'static str) -> impl Fn(JsonFault) -> InvalidInput {
    move |fault| InvalidInput::breaks(field, fault)
}

fn breaks(field: &'static str) -> impl Fn(TextFault) -> InvalidInput {
    move |fault| InvalidInput::breaks(field, fault)
}
