//! The text of a setting, as whoever wrote it meant it. A secret of Kubernetes and a file of an editor end
//! with a newline that is no part of the value. Anything else that nobody sees is refused: an issuer with
//! a tab at its end would start, and match no token.

use thiserror::Error;

/// Why a text is no value of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum TextError {
    /// A character of Unicode's category Cc.
    #[error("contains the control character U+{:04X}", u32::from(*.0))]
    ControlCharacter(char),
    /// What some editors write at the beginning of a file.
    #[error("contains a byte order mark (U+FEFF)")]
    ByteOrderMark,
    /// Bytes that are no text; `String::from_utf8_lossy` put U+FFFD in their place.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A space before or after the value.
    #[error("begins or ends with white space")]
    SurroundingSpace,
}

/// Cuts the newlines off the end of a value, in place, because it may be a secret.
pub(super) fn without_newlines(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    text
}

/// Checks that everything in a value can be seen.
pub(super) fn check(text: &str) -> Result<(), TextError> {
    let invisible = text.chars().find_map(|character| match character {
        '\u{FEFF}' => Some(TextError::ByteOrderMark),
        '\u{FFFD}' => Some(TextError::NotUtf8),
        control if control.is_control() => Some(TextError::ControlCharacter(control)),
        _ => None,
    });
    match invisible {
        Some(error) => Err(error),
        None if text != text.trim() => Err(TextError::SurroundingSpace),
        None => Ok(()),
    }
}

/// What is left of a refused value when everything that nobody sees is taken out. The settings are refused
/// already; this shows what else is wrong with them, and nothing that is not.
pub(super) fn visible(text: &str) -> String {
    let seen = |character: &char| !character.is_control() && !matches!(character, '\u{FEFF}');
    let visible: String = text.chars().filter(seen).collect();
    visible.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newlines_at_the_end_are_no_part_of_a_value() {
        for text in [
            "value",
            "value\n",
            "value\r\n",
            "value\n\n",
            "value\r\n\r\n",
        ] {
            assert_eq!(without_newlines(text.to_owned()), "value");
        }
        assert_eq!(without_newlines("\nvalue".to_owned()), "\nvalue");
        assert_eq!(without_newlines("\n".to_owned()), "");
    }

    #[test]
    fn what_cannot_be_seen_is_refused_by_name() {
        for text in ["https://issuer.test", "a, b", "Łukasz", ""] {
            assert_eq!(check(text), Ok(()), "{text:?}");
        }
        for (text, says) in [
            ("a\nb", "contains the control character U+000A"),
            ("a\t", "contains the control character U+0009"),
            ("a\u{0}", "contains the control character U+0000"),
            ("a\u{85}b", "contains the control character U+0085"),
            ("\u{FEFF}a", "contains a byte order mark (U+FEFF)"),
            ("a\u{FFFD}", "is not UTF-8"),
            (" a", "begins or ends with white space"),
            ("a\u{A0}", "begins or ends with white space"),
        ] {
            assert_eq!(check(text).unwrap_err().to_string(), says, "{text:?}");
        }
    }

    #[test]
    fn what_is_left_can_be_seen() {
        assert_eq!(visible(" \u{FEFF}a\n b\t\u{A0}"), "a b");
    }
}
