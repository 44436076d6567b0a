//! The only form in which a secret leaves the vault.

use crate::audit::journal::Receipt;

/// A secret together with the proof that its leaving is on record. No audit, no secret: without a
/// [`Receipt`] there is none of these, and a transport never sees a secret in another form.
#[derive(Debug)]
pub struct Released<T> {
    value: T,
    _receipt: Receipt,
}

impl<T> Released<T> {
    pub(super) fn new(value: T, receipt: Receipt) -> Self {
        Self {
            value,
            _receipt: receipt,
        }
    }

    /// What was released, for writing it to its caller.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}
