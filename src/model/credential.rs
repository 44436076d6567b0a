//! A credential: to store, and as it is described.

use zeroize::Zeroizing;

use super::{
    id::CredentialId,
    invalid::InvalidInput,
    json::Json,
    metadata::Metadata,
    restrictions::Restrictions,
    secret::{AccessToken, MAX_TOKEN_BYTES, RefreshToken},
    service_name::ServiceName,
    text::{CredentialType, PrincipalId},
    timestamp::Timestamp,
};

/// The description of a stored credential: everything but its tokens.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its id, which a replacing store keeps.
    pub id: CredentialId,
    /// Whose it is.
    pub principal_id: PrincipalId,
    /// What it is for, in the spelling of the last store.
    pub service: ServiceName,
    /// What kind it is.
    pub credential_type: CredentialType,
    /// When the access token expires upstream.
    pub token_expires_at: Option<Timestamp>,
    /// The developer's own data.
    pub metadata: Metadata,
    /// The first store.
    pub created_at: Timestamp,
    /// The last store.
    pub updated_at: Timestamp,
    /// What an exchange needs beside a scope.
    pub restrictions: Restrictions,
}

/// A credential that a developer asks to store.
#[derive(Debug)]
pub struct NewCredential {
    /// Whose it is.
    pub principal_id: PrincipalId,
    /// What it is for.
    pub service: ServiceName,
    /// What kind it is.
    pub credential_type: CredentialType,
    /// The secret that agents receive.
    pub access_token: AccessToken,
    /// The secret that nobody receives.
    pub refresh_token: Option<RefreshToken>,
    /// When the access token expires upstream.
    pub token_expires_at: Option<Timestamp>,
    /// The developer's own data.
    pub metadata: Metadata,
    /// What an exchange needs beside a scope.
    pub restrictions: Restrictions,
}

/// The fields of a store request as a transport decoded them. Empty text is what REST calls absent.
#[derive(Default)]
pub struct CredentialDraft {
    /// Required.
    pub principal_id: String,
    /// Required.
    pub service: String,
    /// Required.
    pub access_token: Zeroizing<String>,
    /// `oauth2` when absent.
    pub credential_type: Option<String>,
    /// None when empty.
    pub refresh_token: Zeroizing<String>,
    /// None when absent.
    pub token_expires_at: Option<Timestamp>,
    /// `{}` when absent.
    pub metadata: Option<Json>,
    /// Nothing is required when empty.
    pub required_scopes: Vec<String>,
    /// Every agent is allowed when empty.
    pub allowed_agents: Vec<String>,
}

impl NewCredential {
    /// Applies the rules of every field.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn parse(draft: CredentialDraft) -> Result<Self, InvalidInput> {
        if let Some(field) = draft.missing() {
            let message = "principalId, service, and accessToken are required";
            return Err(InvalidInput::says(field, message));
        }
        let too_large = |field| {
            InvalidInput::breaks(
                field,
                format_args!("must be at most {MAX_TOKEN_BYTES} bytes"),
            )
        };
        Ok(Self {
            principal_id: PrincipalId::parse(&draft.principal_id)
                .map_err(|fault| InvalidInput::breaks("principalId", fault))?,
            service: parse_service(&draft.service)?,
            credential_type: draft.credential_type.as_deref().map_or_else(
                || Ok(CredentialType::default()),
                |text| {
                    CredentialType::parse(text)
                        .map_err(|fault| InvalidInput::breaks("credentialType", fault))
                },
            )?,
            access_token: AccessToken::new(draft.access_token)
                .ok_or_else(|| too_large("accessToken"))?,
            refresh_token: (!draft.refresh_token.is_empty())
                .then(|| {
                    RefreshToken::new(draft.refresh_token).ok_or_else(|| too_large("refreshToken"))
                })
                .transpose()?,
            token_expires_at: draft.token_expires_at,
            metadata: draft.metadata.as_ref().map_or_else(
                || Ok(Metadata::default()),
                |value| {
                    Metadata::new(value).map_err(|fault| InvalidInput::breaks("metadata", fault))
                },
            )?,
            restrictions: Restrictions::parse(&draft.required_scopes, &draft.allowed_agents)?,
        })
    }
}

/// Parses the field `service` of any request.
///
/// # Errors
///
/// When it is empty or not a service name.
pub fn parse_service(text: &str) -> Result<ServiceName, InvalidInput> {
    if text.is_empty() {
        return Err(InvalidInput::breaks("service", "is required"));
    }
    ServiceName::parse(text).map_err(|fault| InvalidInput::says("service", fault.to_string()))
}

// === impl CredentialDraft ===

impl CredentialDraft {
    fn missing(&self) -> Option<&'static str> {
        [
            ("principalId", self.principal_id.is_empty()),
            ("service", self.service.is_empty()),
            ("accessToken", self.access_token.is_empty()),
        ]
        .into_iter()
        .find_map(|(field, missing)| missing.then_some(field))
    }
}
