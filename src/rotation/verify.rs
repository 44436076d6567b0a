//! Verify: does it open? Nothing that opens is shown.

use super::{Rotation, RotationFault, SEALED_PAGE, Trouble, Watch};
use crate::store::rotation::{RowKey, Scanned, SealedRow};

/// How many credentials are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every one.
    All,
    /// So many, chosen at random.
    Sample(u32),
}

impl Rotation {
    /// Opens credentials, access and refresh token, each for the place that its row claims; what does
    /// not open is reported and counted.
    ///
    /// # Errors
    ///
    /// When database or master key cannot be used.
    pub async fn verify(&self, extent: Extent, watch: &Watch<'_>) -> Result<(), RotationFault> {
        match extent {
            Extent::All => self.verify_all(watch).await,
            Extent::Sample(size) => self.verify_sample(size, watch).await,
        }
    }

    async fn verify_all(&self, watch: &Watch<'_>) -> Result<(), RotationFault> {
        let mut position = RowKey::default();
        loop {
            let page = self
                .store
                .sealed_credentials(None, &position, SEALED_PAGE)
                .await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            position = last.key.clone();
            self.verify_page(page, watch).await?;
        }
    }

    async fn verify_sample(&self, size: u32, watch: &Watch<'_>) -> Result<(), RotationFault> {
        let chosen = self.store.random_credentials(size.into()).await?;
        for keys in chosen.chunks(usize::try_from(SEALED_PAGE).unwrap_or(1)) {
            let page = self.store.sealed_credentials_at(keys).await?;
            self.verify_page(page, watch).await?;
        }
        Ok(())
    }

    async fn verify_page(
        &self,
        page: Vec<Scanned<SealedRow>>,
        watch: &Watch<'_>,
    ) -> Result<(), RotationFault> {
        let work = async |_: &Scanned<_>, row: &_| {
            self.pace.turn().await;
            self.open(row).await?;
            watch.done();
            Ok::<_, Trouble>(())
        };
        self.each(page, watch, work).await
    }
}
