//! Which check a grant token failed: a label of a metric and a field of the log.

/// The checks that a grant token goes through before the database is asked, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantCheck {
    /// Three parts of canonical base64url, 16 KiB at most.
    Form,
    /// A header that is one JSON object, without critical extensions.
    Header,
    /// The type (`typ`), and that it fits the form of the claims.
    Type,
    /// An algorithm that is taken, and that the key is for.
    Algorithm,
    /// A key of the issuer (`kid`).
    Key,
    /// The signature.
    Signature,
    /// Every claim is there, of its type and within its bounds.
    Claims,
    /// The legacy aliases say what the standard claims say.
    Aliases,
    /// It is a grant, not a session of a principal (`purpose`).
    Purpose,
    /// It is not bound to a key that is not proven here (`cnf`).
    KeyBinding,
    /// The issuer (`iss`).
    Issuer,
    /// The audience (`aud`).
    Audience,
    /// It has not expired (`exp`).
    Expiry,
    /// It has begun (`nbf`).
    NotBefore,
    /// It was issued before it expires, and not in the future (`iat`).
    IssuedAt,
    /// It does not live longer than the vault allows.
    Lifetime,
    /// It was not delegated deeper than the vault allows.
    Delegation,
}

impl GrantCheck {
    /// Every check.
    pub const ALL: [Self; 17] = [
        Self::Form,
        Self::Header,
        Self::Type,
        Self::Algorithm,
        Self::Key,
        Self::Signature,
        Self::Claims,
        Self::Aliases,
        Self::Purpose,
        Self::KeyBinding,
        Self::Issuer,
        Self::Audience,
        Self::Expiry,
        Self::NotBefore,
        Self::IssuedAt,
        Self::Lifetime,
        Self::Delegation,
    ];

    /// The name in the log and in the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Header => "header",
            Self::Type => "type",
            Self::Algorithm => "algorithm",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Aliases => "aliases",
            Self::Purpose => "purpose",
            Self::KeyBinding => "key_binding",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expiry => "expiry",
            Self::NotBefore => "not_before",
            Self::IssuedAt => "issued_at",
            Self::Lifetime => "lifetime",
            Self::Delegation => "delegation",
        }
    }
}
