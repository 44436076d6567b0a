//! The secrets that the vault keeps: upstream tokens, and what webhooks are signed with.
//!
//! They cannot be cloned, shown or serialised, and their memory is wiped when they are dropped.

use std::fmt;

use zeroize::Zeroizing;

/// The most bytes a token may have.
pub const MAX_TOKEN_BYTES: usize = 256 * 1024;

macro_rules! secret_text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 byte to 256 KiB of any Unicode text, NUL included.
        pub struct $name(Zeroizing<String>);

        impl $name {
            /// Takes the text over; `None` when it is empty or too large.
            #[must_use]
            pub fn new(text: Zeroizing<String>) -> Option<Self> {
                (1..=MAX_TOKEN_BYTES).contains(&text.len()).then_some(Self(text))
            }

            /// The secret itself. Whoever calls this answers for where it goes.
            #[must_use]
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[redacted]")
            }
        }
    };
}

secret_text!(
    /// What an agent receives: the upstream access token or API key.
    AccessToken
);
secret_text!(
    /// What renews an access token upstream. It never leaves the vault.
    RefreshToken
);

/// What a Grantex auth service signs its webhooks to one developer with: 16 to 512 visible ASCII
/// characters.
pub struct WebhookSecret(Zeroizing<String>);

impl WebhookSecret {
    /// Takes the text over; `None` when it is no such secret.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Option<Self> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        ((16..=512).contains(&text.len()) && visible).then_some(Self(text))
    }

    /// The secret itself. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let token = AccessToken::new(Zeroizing::new("canary".to_owned())).unwrap();
        assert_eq!(format!("{token:?}"), "[redacted]");
    }

    #[test]
    fn empty_and_oversize_are_no_tokens() {
        assert!(AccessToken::new(Zeroizing::new(String::new())).is_none());
        assert!(RefreshToken::new(Zeroizing::new("x".repeat(MAX_TOKEN_BYTES + 1))).is_none());
        assert!(RefreshToken::new(Zeroizing::new("x".repeat(MAX_TOKEN_BYTES))).is_some());
    }
}
