//! What is wrong with a credential.

use std::fmt;

use super::RotationFault;
use crate::{envelope::data_key::DoesNotOpen, model::sealed::MasterKeyId, store::rotation::RowKey};

/// A credential that could not be worked on. Its `Display` is a line for a person and shows neither
/// principal nor secret.
#[derive(Debug)]
pub struct Broken {
    /// Which.
    pub row: RowKey,
    /// Why.
    pub why: Reason,
}

/// Why a credential does not open, as far as that can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A column, or the bytes of a ciphertext, have no form that the vault writes.
    Format,
    /// The data key was wrapped for another place, by another key, or was changed.
    DataKey,
    /// The master key that is recorded is not among the configured ones.
    NotConfigured(MasterKeyId),
    /// The data key is of this place; the access token is not, or stands beside other attributes.
    AccessToken,
    /// The same of the refresh token, while the access token opens.
    RefreshToken,
}

/// What stops the work on a row, or all of it.
pub(super) enum Trouble {
    /// The row is to be reported.
    Row(Reason),
    /// Nothing more can be done now.
    Run(RotationFault),
}

// === impl Reason ===

impl Reason {
    pub(super) fn of_access_token(fault: DoesNotOpen) -> Self {
        match fault {
            DoesNotOpen::Format | DoesNotOpen::Plaintext => Self::Format,
            DoesNotOpen::DataKey => Self::DataKey,
            DoesNotOpen::Ciphertext => Self::AccessToken,
        }
    }

    pub(super) fn of_refresh_token(fault: DoesNotOpen) -> Self {
        match Self::of_access_token(fault) {
            Self::AccessToken => Self::RefreshToken,
            other => other,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("format: a column holds what the vault never writes"),
            Self::DataKey => f.write_str(
                "data key: not wrapped for this place by its master key; the row was moved, re-labelled or tampered with",
            ),
            // Whoever can write the table chooses this text.
            Self::NotConfigured(id) => {
                let id = id.as_str().escape_debug();
                write!(f, "master key not configured: {id}")
            }
            Self::AccessToken => f.write_str(
                "access token: an attribute beside it was changed, or the ciphertext was tampered with",
            ),
            Self::RefreshToken => {
                f.write_str("refresh token: the ciphertext was tampered with")
            }
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.row, self.why)
    }
}

// === impl Trouble ===

impl<T: Into<RotationFault>> From<T> for Trouble {
    fn from(fault: T) -> Self {
        Self::Run(fault.into())
    }
}
