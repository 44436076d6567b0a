//! Re-encrypt: a new data key and new ciphertext for chosen credentials.

use super::{
    Reason, Rotation, RotationFault, SEALED_PAGE, Trouble, Watch, attributes_of, place_of,
};
use crate::{
    envelope::kms::Kms,
    model::{
        sealed::Sealed,
        secret::{AccessToken, RefreshToken},
        text::DeveloperId,
    },
    store::rotation::{Replaced, RowKey, Scanned, SealedRow},
};

impl Rotation {
    /// Seals credentials anew under a new data key of the primary: a developer's or all, those after
    /// a position. It calls `reached` with the position up to which all are done; after a kill, go on
    /// from there.
    ///
    /// A credential that is stored meanwhile is not overwritten: that was sealed anew anyway.
    ///
    /// # Errors
    ///
    /// When database or master key cannot be used; the primary is retired.
    pub async fn reencrypt(
        &self,
        developer: Option<&DeveloperId>,
        after: RowKey,
        watch: &Watch<'_>,
        reached: &dyn Fn(&RowKey),
    ) -> Result<(), RotationFault> {
        self.usable_primary().await?;
        let mut position = after;
        loop {
            let page = self
                .store
                .sealed_credentials(developer, &position, SEALED_PAGE)
                .await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            position = last.key.clone();
            let work = async |row: &Scanned<_>, content: &_| {
                self.reencrypt_one(&row.key, content, watch).await
            };
            self.each(page, watch, work).await?;
            reached(&position);
        }
    }

    async fn reencrypt_one(
        &self,
        key: &RowKey,
        row: &SealedRow,
        watch: &Watch<'_>,
    ) -> Result<(), Trouble> {
        self.pace.turn().await;
        let (place, attributes) = (place_of(&row.labels), attributes_of(row));
        let context = place.kms_context();
        let opened = self.open(row).await?;
        let fresh = self
            .call(async || self.keys.generate(&context).await)
            .await?;
        let (access, refresh) = (&opened.access, opened.refresh.as_ref());
        let (sealed, _) = fresh.seal(&place, &attributes, access, refresh);
        drop(opened);
        let old = &row.sealed.data_key;
        match self.store.replace_sealed(key, old, &sealed).await? {
            Replaced::Done => watch.done(),
            Replaced::Overtaken => watch.overtaken(),
        }
        Ok(())
    }

    /// Opens all that is secret of a credential, for the place that its row claims.
    pub(super) async fn open(&self, row: &SealedRow) -> Result<Opened, Trouble> {
        let (place, attributes) = (place_of(&row.labels), attributes_of(row));
        let data_key = self
            .unwrap(&row.sealed.data_key, &place.kms_context())
            .await?;
        let access = Sealed::from_stored(row.sealed.access_token.as_bytes().to_vec());
        let access = data_key.open_access_token(&place, &attributes, access);
        let access = access.map_err(|fault| Trouble::Row(Reason::of_access_token(fault)))?;
        let refresh = row.sealed.refresh_token.as_ref().map(|sealed| {
            let sealed = Sealed::from_stored(sealed.as_bytes().to_vec());
            data_key.open_refresh_token(&place, &attributes, sealed)
        });
        let refresh = refresh.transpose();
        let refresh = refresh.map_err(|fault| Trouble::Row(Reason::of_refresh_token(fault)))?;
        Ok(Opened { access, refresh })
    }
}

/// The tokens of a credential, in clear until they are dropped.
pub(super) struct Opened {
    access: AccessToken,
    refresh: Option<RefreshToken>,
}
