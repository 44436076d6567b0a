//! What the store knows of a grant.

/// Whether a grant still holds, read in the same snapshot as the credential that it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantState {
    /// Neither the token nor its grant nor its parent grant was revoked.
    Live,
    /// One of them was.
    Revoked,
}
