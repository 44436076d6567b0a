//! The nouns of the vault: parsed once at the edge, pure, and trusted everywhere else.

pub mod bearer;
pub mod caller;
pub mod cause;
pub mod certificate;
pub mod credential;
pub mod event_filter;
pub mod grant_check;
pub mod grant_state;
pub mod id;
pub mod invalid;
pub mod json;
pub mod metadata;
pub mod network;
pub mod page;
pub mod page_token;
pub mod request;
pub mod restrictions;
pub mod revocation;
pub mod scope;
pub mod sealed;
pub mod secret;
pub mod service_name;
pub mod text;
pub mod timestamp;
