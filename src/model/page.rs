//! Pages of a list: how many, and from where.

use super::{id::CredentialId, page_token, text::DeveloperId, timestamp::Timestamp};

/// How many items a page has: 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(u16);

/// Which credentials a list asks for. A filter is the caller's text: one that no row can have
/// matches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialFilter {
    /// Only this principal's.
    pub principal_id: Option<String>,
    /// Only this service's, compared without ASCII case.
    pub service: Option<String>,
}

/// The last item of a page: the next page starts after it. Lists are newest first, by
/// (`created_at`, `id`), which a replacing store does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// When the last item was first stored.
    pub created_at: Timestamp,
    /// Its id.
    pub id: CredentialId,
}

// === impl PageSize ===

impl PageSize {
    /// What a caller gets that pages without saying how many.
    pub const DEFAULT: Self = Self(100);
    /// The most.
    pub const MAX: Self = Self(1000);

    /// `None` outside 1 to 1000.
    #[must_use]
    pub fn new(size: i64) -> Option<Self> {
        let size = u16::try_from(size).ok()?;
        (1..=Self::MAX.0).contains(&size).then_some(Self(size))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0.into()
    }
}

// === impl Position ===

impl Position {
    /// The page token: of use only with the developer and filter that it was made for.
    #[must_use]
    pub fn to_token(self, developer: &DeveloperId, filter: &CredentialFilter) -> String {
        let (millis, id) = (self.created_at.as_millisecond(), self.id.to_string());
        let service = filter.service.as_deref().map(str::to_ascii_lowercase);
        page_token::make(
            &format!("{millis}.{id}"),
            &[&millis.to_be_bytes(), id.as_bytes()],
            &[
                Some(developer.as_str()),
                filter.principal_id.as_deref(),
                service.as_deref(),
            ],
        )
    }

    /// Reads a page token; `None` when it was altered or belongs to another list.
    #[must_use]
    pub fn from_token(
        token: &str,
        developer: &DeveloperId,
        filter: &CredentialFilter,
    ) -> Option<Self> {
        let place = page_token::claimed_place(token)?;
        let (millis, id) = place.split_once('.')?;
        let position = Self {
            created_at: Timestamp::from_millisecond(millis.parse().ok()?).ok()?,
            id: CredentialId::parse(id)?,
        };
        (position.to_token(developer, filter) == token).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position() -> Position {
        let moment = Timestamp::from_millisecond(1_775_390_400_000).unwrap();
        Position {
            created_at: moment,
            id: CredentialId::make(moment),
        }
    }

    fn filter(principal_id: Option<&str>, service: Option<&str>) -> CredentialFilter {
        CredentialFilter {
            principal_id: principal_id.map(str::to_owned),
            service: service.map(str::to_owned),
        }
    }

    #[test]
    fn a_token_leads_back_to_its_place_in_its_own_list_only() {
        let (one, two) = (
            DeveloperId::parse("one").unwrap(),
            DeveloperId::parse("two").unwrap(),
        );
        let mine = filter(Some("p"), Some("GitHub"));
        let token = position().to_token(&one, &mine);
        let again = Position::from_token(&token, &one, &filter(Some("p"), Some("github")));
        assert_eq!(
            again.map(|place| place.to_token(&one, &mine)),
            Some(token.clone())
        );
        assert!(Position::from_token(&token, &two, &mine).is_none());
        for other in [
            filter(None, None),
            filter(Some("p"), None),
            filter(Some(""), Some("github")),
        ] {
            assert!(
                Position::from_token(&token, &one, &other).is_none(),
                "{other:?}"
            );
        }
    }

    #[test]
    fn a_token_that_was_handed_out_before_is_read_still() {
        let token = "MTc3NTM5MDQwMDAwMC52Y18wMUpSMlhKNFk4WkM1VDlXM002TjdQMFFSUy5ZNHJEVEV3X29hR1VfYmlqdzI3VDlUNmRjVHRrb09xRlc5a3ZzZmFkRmZN";
        let place = Position {
            created_at: Timestamp::from_millisecond(1_775_390_400_000).unwrap(),
            id: CredentialId::parse("vc_01JR2XJ4Y8ZC5T9W3M6N7P0QRS").unwrap(),
        };
        let developer = DeveloperId::parse("acme").unwrap();
        let filter = filter(Some("p"), Some("GitHub"));
        assert_eq!(place.to_token(&developer, &filter), token);
        assert_eq!(
            Position::from_token(token, &developer, &filter),
            Some(place)
        );
    }

    proptest! {
        #[test]
        fn an_altered_token_is_refused(index in 0_usize..100, byte in any::<u8>()) {
            let (developer, all) = (DeveloperId::parse("one").unwrap(), filter(None, None));
            let token = position().to_token(&developer, &all);
            let mut bytes = token.clone().into_bytes();
            let index = index % bytes.len();
            prop_assume!(bytes[index] != byte);
            bytes[index] = byte;
            if let Ok(altered) = String::from_utf8(bytes) {
                prop_assert!(Position::from_token(&altered, &developer, &all).is_none());
            }
        }
    }
}
