//! Paths and queries, decoded as the contract says.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::{
    model::{
        event_filter::{EventFilter, OutcomeName},
        invalid::InvalidInput,
        page::{CredentialFilter, PageSize},
        timestamp::Timestamp,
    },
    vault::Paging,
};

/// A credential's id, the last segment of a path; a malformed percent escape is taken literally.
pub(super) fn id(path: &str) -> Result<Cow<'_, str>, InvalidInput> {
    let segment = path.rsplit('/').next().unwrap_or_default();
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map_err(|_| InvalidInput::breaks("id", "must be UTF-8"))
}

/// The query of a list: its filter, and its paging when it asks for pages.
pub(super) fn list(query: &str) -> Result<(CredentialFilter, Option<Paging>), InvalidInput> {
    let names = ["principalId", "service", "pageSize", "pageToken"];
    let [principal_id, service, size, token] = parameters(query, names)?;
    let paging = paging(size.as_deref(), token)?;
    let asks_for_pages = paging.size.is_some() || paging.token.is_some();
    Ok((
        CredentialFilter {
            principal_id,
            service,
        },
        asks_for_pages.then_some(paging),
    ))
}

/// The query of the audit record.
pub(super) fn audit_events(query: &str) -> Result<(EventFilter, Paging), InvalidInput> {
    let [
        principal_id,
        service,
        credential_id,
        grant_id,
        outcome,
        from,
        to,
        size,
        token,
    ] = parameters(
        query,
        [
            "principalId",
            "service",
            "credentialId",
            "grantId",
            "outcome",
            "from",
            "to",
            "pageSize",
            "pageToken",
        ],
    )?;
    let outcome = outcome.map(|text| {
        let name = OutcomeName::parse(&text);
        name.map_err(|fault| InvalidInput::breaks("outcome", fault))
    });
    let filter = EventFilter {
        principal_id,
        service,
        credential_id,
        grant_id,
        outcome: outcome.transpose()?,
        from: moment("from", from)?,
        to: moment("to", to)?,
    };
    Ok((filter, paging(size.as_deref(), token)?))
}

/// The values of the parameters of these names, each of which may stand once.
fn parameters<const N: usize>(
    query: &str,
    names: [&'static str; N],
) -> Result<[Option<String>; N], InvalidInput> {
    let mut values = [const { None }; N];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        let mut known = names.iter().zip(&mut values);
        let Some((field, parameter)) = known.find(|(known, _)| **known == name) else {
            continue;
        };
        if parameter.replace(value).is_some() {
            return Err(InvalidInput::breaks(field, "must be given once"));
        }
    }
    Ok(values)
}

fn paging(size: Option<&str>, token: Option<String>) -> Result<Paging, InvalidInput> {
    Ok(Paging {
        size: size.map(page_size).transpose()?,
        token: token.filter(|token| !token.is_empty()),
    })
}

fn moment(field: &'static str, text: Option<String>) -> Result<Option<Timestamp>, InvalidInput> {
    let moment = text
        .map(|text| Timestamp::parse(&text).map_err(|fault| InvalidInput::breaks(field, fault)));
    moment.transpose()
}

fn page_size(text: &str) -> Result<PageSize, InvalidInput> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok().and_then(PageSize::new))
        .flatten()
        .ok_or_else(|| InvalidInput::breaks("pageSize", "must be 1 to 1000"))
}

/// A plus is a space here, unlike in a path.
fn decode(text: &str) -> Result<String, InvalidInput> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded
        .map(Cow::into_owned)
        .map_err(|_| InvalidInput::says("query", "query must be UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_decoded_and_unknown_parameters_ignored() {
        let (filter, paging) = list("principalId=a+b%2Bc&x=%20&service=").unwrap();
        assert_eq!(filter.principal_id.as_deref(), Some("a b+c"));
        assert_eq!(filter.service.as_deref(), Some(""));
        assert!(paging.is_none());
    }

    #[test]
    fn a_malformed_escape_is_taken_literally_and_bad_utf8_is_refused() {
        assert_eq!(
            list("service=%zz%2").unwrap().0.service.as_deref(),
            Some("%zz%2")
        );
        assert!(list("x=%ff").is_err());
        assert!(id("/%ff").is_err());
        assert_eq!(id("/x/a+%zz").unwrap(), "a+%zz");
    }

    #[test]
    fn a_known_parameter_stands_once_and_an_unknown_one_as_often_as_it_likes() {
        assert!(list("service=a&service=a").is_err());
        assert!(list("x=a&x=a").is_ok());
    }

    #[test]
    fn a_page_size_is_digits_from_1_to_1000() {
        for (text, fine) in [
            ("1", true),
            ("1000", true),
            ("0001", true),
            ("0", false),
            ("1001", false),
            ("", false),
            ("+1", false),
            ("%2B1", false),
            ("1e2", false),
            ("99999999999999999999", false),
        ] {
            assert_eq!(list(&format!("pageSize={text}")).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn an_empty_token_is_absent() {
        assert!(list("pageToken=").unwrap().1.is_none());
        assert!(
            list("pageToken=x")
                .unwrap()
                .1
                .is_some_and(|paging| paging.size.is_none())
        );
    }
}
