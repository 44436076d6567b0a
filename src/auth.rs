//! Who asks: API keys, and grant tokens of one issuer.

pub mod admin_token;
pub mod api_key;
mod claims;
pub mod grant;
pub mod grant_rules;
pub mod grant_verifier;
pub mod jwks;
pub mod key_set;
pub mod key_source;
pub mod rejection;
mod token_header;
mod verified_tokens;
pub mod webhook;
