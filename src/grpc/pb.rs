//! The code that is generated from `proto/`.

#![allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; its documentation is in the .proto files"
)]

use std::fmt;

tonic::include_proto!("grantex.vault.v1");

/// What operators call.
pub mod admin {
    use std::fmt;

    tonic::include_proto!("grantex.vault.admin.v1");

    impl fmt::Debug for CreateApiKeyResponse {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("CreateApiKeyResponse")
                .field("api_key", &self.api_key)
                .finish_non_exhaustive()
        }
    }
}

impl fmt::Debug for StoreCredentialRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCredentialRequest")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ExchangeCredentialResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeCredentialResponse")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
