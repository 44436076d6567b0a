//! The token that operators present to their listener, kept in a file.

use std::{fmt, io, path::PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::{fs::File, io::AsyncReadExt};
use zeroize::Zeroizing;

/// The least and the most bytes of a token; 32 are what 16 random bytes have in hexadecimal.
const MIN_BYTES: usize = 32;
const MAX_BYTES: usize = 512;

/// Where the token is. It is read whenever it is asked for, so that it can be replaced at any time.
#[derive(Debug, Clone)]
pub struct AdminToken {
    file: PathBuf,
}

/// The file holds no token that is taken.
#[derive(Debug, Error)]
pub enum BadToken {
    /// It cannot be read.
    #[error("names {0}, which cannot be read: {1}")]
    Unreadable(String, #[source] io::Error),
    /// It holds something else.
    #[error("names {0}, which must hold 32 to 512 visible ASCII characters")]
    Malformed(String),
}

/// A token, as it is compared: in time that says nothing of either.
struct Fingerprint([u8; 32]);

impl AdminToken {
    /// Takes the token of a file.
    ///
    /// # Errors
    ///
    /// When it holds none.
    pub async fn of(file: PathBuf) -> Result<Self, BadToken> {
        let token = Self { file };
        token.read().await?;
        Ok(token)
    }

    /// Whether this is the token that the file holds now; nobody is admitted while it holds none.
    pub async fn admits(&self, presented: &str) -> bool {
        match self.read().await {
            Ok(token) => token == Fingerprint::of(presented.as_bytes()),
            Err(fault) => {
                tracing::warn!("GRANTEX_VAULT_OPERATOR_TOKEN_FILE {fault}");
                false
            }
        }
    }

    async fn read(&self) -> Result<Fingerprint, BadToken> {
        let path = || self.file.display().to_string();
        let unreadable = |error| BadToken::Unreadable(path(), error);
        let file = File::open(&self.file).await.map_err(unreadable)?;
        // One more than may be there, and a line's end.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 3));
        let room = u64::try_from(bytes.capacity()).expect("a small number");
        let read = file.take(room).read_to_end(&mut bytes).await;
        read.map_err(unreadable)?;
        let end = bytes
            .iter()
            .rposition(|byte| !matches!(byte, b'\r' | b'\n'));
        let token = bytes.get(..end.map_or(0, |last| last + 1));
        token
            .filter(|token| (MIN_BYTES..=MAX_BYTES).contains(&token.len()))
            .filter(|token| token.iter().all(u8::is_ascii_graphic))
            .map(Fingerprint::of)
            .ok_or_else(|| BadToken::Malformed(path()))
    }
}

// === impl Fingerprint ===

impl Fingerprint {
    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn token(content: &str) -> Result<AdminToken, BadToken> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        AdminToken::of(file.into_temp_path().keep().unwrap()).await
    }

    #[tokio::test]
    async fn the_token_of_the_file_admits_and_no_other_until_it_is_replaced() {
        let (old, new) = ("a".repeat(32), "b".repeat(32));
        let token = token(&format!("{old}\r\n")).await.unwrap();
        assert!(token.admits(&old).await);
        for other in ["", "a", &new, &format!("{old} "), &"a".repeat(33)] {
            assert!(!token.admits(other).await, "{other}");
        }
        std::fs::write(&token.file, &new).unwrap();
        assert!(token.admits(&new).await);
        assert!(!token.admits(&old).await);
        std::fs::write(&token.file, "").unwrap();
        for other in ["", &old, &new] {
            assert!(!token.admits(other).await, "{other}");
        }
        std::fs::remove_file(&token.file).unwrap();
        assert!(!token.admits(&new).await);
    }

    #[tokio::test]
    async fn what_is_no_token_is_refused_at_start() {
        for wrong in [
            String::new(),
            "a".repeat(31),
            "a".repeat(513),
            "a".repeat(10_000),
            format!("{} {}", "a".repeat(20), "a".repeat(20)),
            "é".repeat(20),
        ] {
            assert!(
                matches!(token(&wrong).await, Err(BadToken::Malformed(_))),
                "{wrong}"
            );
        }
        let missing = AdminToken::of("/does/not/exist".into()).await;
        assert!(matches!(missing, Err(BadToken::Unreadable(..))));
    }
}
