//! The developers of the TypeScript vault with the hashes of their keys, for a vault that stands alone.

use super::{
    Import, ImportFault,
    outcome::{Lost, Remark, Watch},
};
use crate::{
    model::{
        bearer::ApiKeyHash,
        id::ApiKeyId,
        text::{self, DeveloperId},
        timestamp::Timestamp,
    },
    store::{
        Ended, StoreFault,
        grantex_source::{GrantexSource, SourceDeveloper},
        imports::DeveloperImported,
    },
};

const MAX_NAME_CHARS: usize = 512;

impl Import {
    /// Takes over every developer that is not here, each with the hash of its key: the keys work on.
    ///
    /// # Errors
    ///
    /// When one of the databases cannot be used.
    pub async fn developers(
        &self,
        source: &mut GrantexSource,
        now: Timestamp,
        watch: &Watch<'_>,
    ) -> Result<(), ImportFault> {
        let mut after = None;
        loop {
            let page = source.developers(after.as_deref()).await?;
            let Some(last) = page.last() else {
                return self.replaced_keys_are_unused().await;
            };
            after = Some(last.id.clone());
            for developer in &page {
                watch.looked();
                match self.developer(developer, now, watch).await? {
                    Ok(()) => {}
                    Err(why) => watch.lost(&developer.id, why),
                }
            }
        }
    }

    /// Waits for those who came with a key that is revoked now, in this run or in one that ended early.
    async fn replaced_keys_are_unused(&self) -> Result<(), ImportFault> {
        if self.seals.is_none() {
            return Ok(());
        }
        match self.store.earlier_requests_have_ended().await? {
            Ended::All => Ok(()),
            Ended::NotYet => Err(ImportFault::EarlierRequests),
        }
    }

    async fn developer(
        &self,
        from: &SourceDeveloper,
        now: Timestamp,
        watch: &Watch<'_>,
    ) -> Result<Result<(), Lost>, StoreFault> {
        let (id, hash) = match parsed(from) {
            Ok(parsed) => parsed,
            Err(why) => return Ok(Err(why)),
        };
        let name = text::check(&from.name, MAX_NAME_CHARS);
        let called = name.map_or(id.as_str(), |()| from.name.as_str());
        let imported = if self.seals.is_none() {
            self.store.developer_import(&id, &hash).await?
        } else {
            let key = ApiKeyId::make(now);
            let prefix = prefix(from.mode.as_deref());
            self.store
                .import_developer(&id, called, &hash, prefix, key, now)
                .await?
        };
        match imported {
            DeveloperImported::Done => watch.imported(),
            DeveloperImported::Unchanged => {
                watch.unchanged();
                return Ok(Ok(()));
            }
            DeveloperImported::KeyOfAnother => return Ok(Err(Lost::KeyOfAnother)),
        }
        if let Err(fault) = name {
            watch.remarks(&from.id, &[Remark::Name(fault)]);
        }
        Ok(Ok(()))
    }
}

fn parsed(from: &SourceDeveloper) -> Result<(DeveloperId, ApiKeyHash), Lost> {
    let id = DeveloperId::parse(&from.id).map_err(Lost::Developer)?;
    let hash = from_hex(&from.api_key_hash).ok_or(Lost::KeyHash)?;
    Ok((id, ApiKeyHash::from_bytes(hash)))
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(bytes)
}

/// What is known of the beginning of a key whose hash is all there is.
fn prefix(mode: Option<&str>) -> &'static str {
    match mode {
        Some("live") => "gx_live_",
        Some("test") => "gx_test_",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_64_hexadecimal_digits() {
        assert_eq!(from_hex(&"0f".repeat(32)), Some([15; 32]));
        assert_eq!(from_hex(&"FF".repeat(32)), Some([255; 32]));
        for text in ["", "0f", &"0".repeat(65), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
