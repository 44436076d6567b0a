//! Messages of operators to parsed types, and back.

use std::time::Duration;

use super::{convert::timestamp, pb::admin as pb};
use crate::{
    auth::api_key::Mode,
    model::{
        id::ApiKeyId,
        invalid::InvalidInput,
        page::PageSize,
        revocation::Revocation,
        text::{DeveloperId, GrantId, TextFault, TokenId},
        timestamp::Timestamp,
    },
    operator::{ApiKeyRow, DeveloperRow, KeyState, KeyUse, NewApiKey, Page},
};

pub(super) use super::convert::moment;

pub(super) fn developer_id(text: &str) -> Result<DeveloperId, InvalidInput> {
    named("developerId", DeveloperId::parse(text))
}

pub(super) fn grant_id(text: &str) -> Result<GrantId, InvalidInput> {
    named("grantId", GrantId::parse(text))
}

pub(super) fn token_id(text: &str) -> Result<TokenId, InvalidInput> {
    named("tokenId", TokenId::parse(text))
}

fn named<T>(field: &'static str, parsed: Result<T, TextFault>) -> Result<T, InvalidInput> {
    parsed.map_err(|rule| InvalidInput::breaks(field, rule))
}

pub(super) fn api_key_id(text: &str) -> Result<ApiKeyId, InvalidInput> {
    let rule = || InvalidInput::breaks("id", "must be the id of an API key (ak_…)");
    ApiKeyId::parse(text).ok_or_else(rule)
}

pub(super) fn page_size(size: i32) -> Result<PageSize, InvalidInput> {
    match size {
        0 => Ok(PageSize::DEFAULT),
        size => PageSize::new(size.into())
            .ok_or_else(|| InvalidInput::breaks("pageSize", "must be 1 to 1000")),
    }
}

pub(super) fn new_api_key<'a>(
    developer: &'a DeveloperId,
    message: &'a pb::CreateApiKeyRequest,
) -> Result<NewApiKey<'a>, InvalidInput> {
    let expires_in = message.expires_in.map(|length| {
        let length = Duration::try_from(length).ok();
        length
            .map(|length| Duration::from_millis(length.as_millis().try_into().unwrap_or(u64::MAX)))
            .filter(|length| !length.is_zero())
            .ok_or_else(|| InvalidInput::breaks("expiresIn", "must be at least a millisecond"))
    });
    Ok(NewApiKey {
        developer,
        label: &message.label,
        mode: if message.test { Mode::Test } else { Mode::Live },
        expires_in: expires_in.transpose()?,
    })
}

pub(super) fn developers(page: Page<DeveloperRow>) -> pb::ListDevelopersResponse {
    pb::ListDevelopersResponse {
        developers: page.items.into_iter().map(developer).collect(),
        next_page_token: page.next_page_token.unwrap_or_default(),
    }
}

pub(super) fn developer(row: DeveloperRow) -> pb::Developer {
    pb::Developer {
        id: row.id.to_string(),
        name: row.name,
        created_at: Some(timestamp(row.created_at)),
        suspended_at: row.suspended_at.map(timestamp),
    }
}

pub(super) fn api_key(row: ApiKeyRow, now: Timestamp) -> pb::ApiKey {
    pb::ApiKey {
        id: row.id.to_string(),
        developer_id: row.developer_id.to_string(),
        state: KeyState::of(&row, now).as_str().to_owned(),
        label: row.label,
        prefix: row.prefix,
        created_at: Some(timestamp(row.created_at)),
        expires_at: row.expires_at.map(timestamp),
        revoked_at: row.revoked_at.map(timestamp),
    }
}

pub(super) fn revocations(
    page: Page<Revocation>,
    developer: &DeveloperId,
) -> pb::ListRevocationsResponse {
    let revocation = |revocation: Revocation| pb::Revocation {
        kind: revocation.what.kind().to_owned(),
        subject: revocation.what.subject(developer).to_owned(),
        revoked_at: Some(timestamp(revocation.revoked_at)),
        expires_at: revocation.expires_at.map(timestamp),
    };
    pb::ListRevocationsResponse {
        revocations: page.items.into_iter().map(revocation).collect(),
        next_page_token: page.next_page_token.unwrap_or_default(),
    }
}

pub(super) fn master_key(key: &KeyUse) -> pb::MasterKey {
    pb::MasterKey {
        id: key.id.as_str().to_owned(),
        role: key.role.as_str().to_owned(),
        wrapped: key.wrapped,
    }
}
