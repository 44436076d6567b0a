//! Who asks: API keys, and grant tokens of one issuer.

pub mod admin_token;
pub mod api_key;
mod claims;
pub mod grant;
pub mod jwks;
pub mod key_source;
mod verified_tokens;
pub mod webhook;
