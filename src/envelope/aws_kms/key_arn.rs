//! The names of KMS keys (AWS KMS developer guide, "Key identifiers").

use crate::model::sealed::MasterKeyId;

/// How the id of a multi-Region key begins. Its replicas in other Regions have the same id, and open what
/// any of them wrapped (AWS KMS developer guide, "Multi-Region keys").
const MULTI_REGION: &str = "mrk-";

/// The ARN of a key: `arn:aws:kms:eu-west-1:111122223333:key/mrk-…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyArn<'a> {
    partition: &'a str,
    pub(super) region: &'a str,
    account: &'a str,
    id: &'a str,
}

// === impl KeyArn ===

impl<'a> KeyArn<'a> {
    /// `None` for a bare id, an alias, and anything else.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let (arn, partition, service) = (part()?, part()?, part()?);
        let (region, account, resource) = (part()?, part()?, part()?);
        let id = resource.strip_prefix("key/").filter(|id| !id.is_empty())?;
        (arn == "arn" && service == "kms").then_some(Self {
            partition,
            region,
            account,
            id,
        })
    }

    pub(super) fn of(id: &'a MasterKeyId) -> Option<Self> {
        Self::parse(id.as_str())
    }

    /// Whether both are replicas of one multi-Region key, or the same key.
    pub(super) fn is_related_to(self, other: Self) -> bool {
        let elsewhere = Self {
            region: other.region,
            ..self
        };
        self == other || (self.id.starts_with(MULTI_REGION) && elsewhere == other)
    }
}

/// The Region that an ARN of a key or an alias names.
pub(super) fn region_of(name: &str) -> Option<&str> {
    let mut parts = name.split(':');
    (parts.next() == Some("arn"))
        .then(|| parts.nth(2))
        .flatten()
        .filter(|region| !region.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_its_region_and_other_names_do_not() {
        for (name, region) in [
            (
                "arn:aws:kms:eu-west-1:111122223333:key/x",
                Some("eu-west-1"),
            ),
            ("arn:aws-cn:kms:cn-north-1:1:alias/x", Some("cn-north-1")),
            ("alias/x", None),
            ("1234abcd-12ab-34cd-56ef-1234567890ab", None),
        ] {
            assert_eq!(region_of(name), region, "{name}");
        }
    }

    #[test]
    fn only_the_arn_of_a_key_is_parsed() {
        let arn = KeyArn::parse("arn:aws:kms:eu-west-1:111122223333:key/x");
        assert_eq!(arn.map(|arn| arn.region), Some("eu-west-1"));
        for other in [
            "arn:aws:kms:eu-west-1:111122223333:alias/x",
            "arn:aws:kms:eu-west-1:111122223333:key/",
            "arn:aws:kms::111122223333:key/x",
            "arn:aws:s3:eu-west-1:111122223333:key/x",
            "urn:aws:kms:eu-west-1:111122223333:key/x",
            "alias/x",
            "mrk-1",
            "",
        ] {
            assert_eq!(KeyArn::parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_replicas_of_one_multi_region_key_are_related_across_regions() {
        let one = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1";
        for (other, related) in [
            (one, true),
            ("arn:aws:kms:us-west-2:111122223333:key/mrk-1", true),
            ("arn:aws:kms:us-west-2:111122223333:key/mrk-2", false),
            ("arn:aws:kms:us-west-2:444455556666:key/mrk-1", false),
            ("arn:aws-cn:kms:cn-north-1:111122223333:key/mrk-1", false),
        ] {
            let (one, other) = (KeyArn::parse(one).unwrap(), KeyArn::parse(other).unwrap());
            assert_eq!(one.is_related_to(other), related, "{other:?}");
        }
        let single = "arn:aws:kms:eu-west-1:111122223333:key/1";
        let elsewhere = "arn:aws:kms:us-west-2:111122223333:key/1";
        let (single, elsewhere) = (KeyArn::parse(single), KeyArn::parse(elsewhere));
        assert!(!single.unwrap().is_related_to(elsewhere.unwrap()));
    }
}
