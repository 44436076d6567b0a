//! What the SDK's errors mean here, and what makes a key unfit.

use aws_sdk_kms::{
    error::{ProvideErrorMetadata, SdkError},
    types::{KeyMetadata, KeySpec, KeyState, KeyUsageType},
};

use crate::envelope::kms::{Cause, KmsFault};

/// What a call was about: it decides what "invalid" means.
#[derive(Clone, Copy)]
pub(super) enum Subject {
    /// Only the configured key was named.
    MasterKey,
    /// A stored wrapped key was sent.
    WrappedKey,
}

/// Sorts an SDK error by who must act (AWS KMS API reference, "Errors" of each operation).
pub(super) fn classify<E>(error: SdkError<E>, subject: Subject) -> KmsFault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let pending_deletion = error
        .message()
        .is_some_and(|message| message.contains("pending deletion"));
    let cause: Cause = error.into();
    match (code.as_str(), subject) {
        ("InvalidCiphertextException" | "IncorrectKeyException", Subject::WrappedKey) => {
            KmsFault::Tampered(cause)
        }
        ("AccessDeniedException" | "UnrecognizedClientException" | "ExpiredTokenException", _) => {
            KmsFault::Denied(cause)
        }
        ("DisabledException", _) => KmsFault::Disabled(cause),
        ("NotFoundException" | "InvalidArnException", _) => KmsFault::Missing(cause),
        ("InvalidKeyUsageException", _) => KmsFault::WrongUsage(cause),
        // One code for several states; only its text tells them apart.
        ("KMSInvalidStateException", _) if pending_deletion => KmsFault::PendingDeletion(cause),
        ("KMSInvalidStateException", _) => KmsFault::NotReady(cause),
        ("ThrottlingException" | "LimitExceededException" | "RequestLimitExceeded", _) => {
            KmsFault::Throttled(cause)
        }
        _ => KmsFault::Unreachable(cause),
    }
}

/// Whether a key can wrap data keys, by what DescribeKey says of it. What it does not say is no fault.
pub(super) fn fit_for_use(key: &KeyMetadata) -> Result<(), KmsFault> {
    let says = |what: &str| Cause::from(format!("DescribeKey says {what}"));
    if let Some(usage) = key.key_usage()
        && *usage != KeyUsageType::EncryptDecrypt
    {
        return Err(KmsFault::WrongUsage(says(usage.as_str())));
    }
    if let Some(spec) = key.key_spec()
        && *spec != KeySpec::SymmetricDefault
    {
        return Err(KmsFault::WrongUsage(says(spec.as_str())));
    }
    let Some(state) = key.key_state() else {
        return Ok(());
    };
    let cause = says(state.as_str());
    match state {
        KeyState::Disabled => Err(KmsFault::Disabled(cause)),
        KeyState::PendingDeletion | KeyState::PendingReplicaDeletion => {
            Err(KmsFault::PendingDeletion(cause))
        }
        KeyState::Creating | KeyState::PendingImport | KeyState::Unavailable => {
            Err(KmsFault::NotReady(cause))
        }
        // One that is updated can be used, and of states to come the calls themselves will tell.
        _ => Ok(()),
    }
}
