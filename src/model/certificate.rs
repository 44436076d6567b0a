//! Client certificates, as far as they say who their holder is.

use std::str::FromStr;

/// The longest name that is compared. With a serial number it fits the name of an operator.
const MAX_NAME_BYTES: usize = 200;
/// The longest serial number (RFC 5280, section 4.1.2.2).
const MAX_SERIAL_BYTES: usize = 20;

/// A subject alternative name. A name equals one of its own type only: an e-mail address that a
/// certificate calls a host is nobody's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateName {
    /// A host, in lower case.
    Dns(Box<str>),
    /// An e-mail address, compared byte for byte.
    Email(Box<str>),
    /// A URI such as `spiffe://…`, compared byte for byte.
    Uri(Box<str>),
}

/// The verified certificate of a connection's client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    names: Vec<CertificateName>,
    /// In hexadecimal.
    serial: Option<Box<str>>,
}

// === impl CertificateName ===

impl CertificateName {
    /// A host's name; `None` when it is none, or stands for several.
    #[must_use]
    pub fn dns(text: &str) -> Option<Self> {
        let part_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let fits = is_bounded(text) && text.bytes().all(part_of_name);
        fits.then(|| Self::Dns(text.to_ascii_lowercase().into()))
    }

    /// An e-mail address.
    #[must_use]
    pub fn email(text: &str) -> Option<Self> {
        let fits = is_bounded(text) && text.contains('@') && !text.contains("://");
        fits.then(|| Self::Email(text.into()))
    }

    /// A URI with an authority.
    #[must_use]
    pub fn uri(text: &str) -> Option<Self> {
        let fits = is_bounded(text) && text.contains("://");
        fits.then(|| Self::Uri(text.into()))
    }

    /// As it is written in the settings and in the audit record.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Dns(name) | Self::Email(name) | Self::Uri(name) => name,
        }
    }
}

impl FromStr for CertificateName {
    type Err = &'static str;

    /// The type follows from the form.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::uri(text)
            .or_else(|| Self::email(text))
            .or_else(|| Self::dns(text))
            .ok_or("a name is a host, an e-mail address or a URI of at most 200 bytes, no pattern")
    }
}

fn is_bounded(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

// === impl ClientCertificate ===

impl ClientCertificate {
    /// Takes the names of a certificate, and the bytes of its serial number.
    #[must_use]
    pub fn new(names: Vec<CertificateName>, serial: &[u8]) -> Self {
        let first = serial.iter().position(|byte| *byte != 0);
        let significant = first.and_then(|first| serial.get(first..));
        let serial = significant.filter(|bytes| bytes.len() <= MAX_SERIAL_BYTES);
        let hexadecimal = |bytes: &[u8]| {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            digits.collect::<String>().into()
        };
        Self {
            names,
            serial: serial.map(hexadecimal),
        }
    }

    /// The first of these names that the certificate has, with its serial number; `None` also for
    /// one that has no usable serial number.
    #[must_use]
    pub fn known_as<'a>(
        &self,
        allowed: &'a [CertificateName],
    ) -> Option<(&'a CertificateName, &str)> {
        let name = allowed.iter().find(|name| self.names.contains(name))?;
        Some((name, self.serial.as_deref()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CertificateName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_of_the_type_that_its_form_says() {
        let host = name("Grace.Ops.Example.com");
        assert_eq!(host, CertificateName::Dns("grace.ops.example.com".into()));
        let email = name("Grace@example.com");
        assert_eq!(email, CertificateName::Email("Grace@example.com".into()));
        let uri = "spiffe://example.com/ops/grace";
        assert_eq!(name(uri), CertificateName::Uri(uri.into()));
        for wrong in [
            "",
            "*.example.com",
            "a b",
            "a\nb",
            "grâce",
            &"a".repeat(201),
        ] {
            assert!(wrong.parse::<CertificateName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_certificate_is_known_by_a_name_of_the_same_type_and_its_serial() {
        let allowed = ["grace.example.com", "ada@example.com"].map(name);
        let of = |names| ClientCertificate::new(names, &[0, 0x0a, 0xff]);
        let grace = of(vec![name("other.example.com"), name("grace.example.com")]);
        assert_eq!(grace.known_as(&allowed), Some((&allowed[0], "0aff")));
        let disguised = of(vec![CertificateName::Dns("ada@example.com".into())]);
        assert_eq!(disguised.known_as(&allowed), None);
        assert_eq!(of(vec![]).known_as(&allowed), None);
        for serial in [&[0; 3][..], &[1; 21], &[]] {
            let unnumbered = ClientCertificate::new(allowed.to_vec(), serial);
            assert_eq!(unnumbered.known_as(&allowed), None);
        }
    }
}
