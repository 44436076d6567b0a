//! A password file, as libpq has it (section 34.16): lines of `host:port:database:user:password`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tokio_postgres::config::Host;
use zeroize::Zeroizing;

/// The largest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// Whose password is looked for.
pub(super) struct Entry<'a> {
    pub(super) host: &'a Host,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password of the first line that fits; `None` when none does, or when others may read the file too.
pub(super) fn password(path: &Path, of: &Entry<'_>) -> Option<Zeroizing<String>> {
    let about = fs::metadata(path).ok()?;
    if !about.is_file() || about.len() > MAX_BYTES {
        tracing::warn!("the passfile of a database URL is ignored: it is no small file");
        return None;
    }
    if about.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            "the passfile of a database URL is ignored: others than its owner may read it"
        );
        return None;
    }
    let text = Zeroizing::new(fs::read_to_string(path).ok()?);
    text.lines().find_map(|line| password_of(line, of))
}

fn password_of(line: &str, of: &Entry<'_>) -> Option<Zeroizing<String>> {
    if line.starts_with('#') {
        return None;
    }
    let host = match of.host {
        Host::Tcp(name) => name.clone(),
        // A socket's directory stands there as it is, or as the host that it is of.
        Host::Unix(directory) => directory.display().to_string(),
    };
    let local = matches!(of.host, Host::Unix(_)).then_some("localhost");
    let port = of.port.to_string();
    let mut rest = line;
    let mut next = || {
        let (field, after) = field(rest)?;
        rest = after;
        Some(field)
    };
    let fits = |field: &str, value: &str| field == "*" || field == value;
    let wanted = next()?;
    let is_ours = (fits(&wanted, &host) || local == Some(wanted.as_str()))
        && fits(&next()?, &port)
        && fits(&next()?, of.database)
        && fits(&next()?, of.user);
    is_ours.then(|| unescaped(rest))
}

/// The text before the next colon, which a backslash may precede, and what follows it.
fn field(line: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    for (at, character) in line.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((unescaped(&line[..at]).to_string(), &line[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.extend(match character {
            '\\' => characters.next(),
            other => Some(other),
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str, host: &Host) -> Option<String> {
        let of = Entry {
            host,
            port: 5432,
            database: "v",
            user: "vault",
        };
        password_of(line, &of).map(|password| password.to_string())
    }

    #[test]
    fn a_line_counts_when_all_of_it_fits() {
        let tcp = || Host::Tcp("db.example.com".to_owned());
        for (line, expected) in [
            ("db.example.com:5432:v:vault:secret", Some("secret")),
            ("*:*:*:*:secret", Some("secret")),
            ("*:*:*:*:a\\:b\\\\c:d", Some("a:b\\c:d")),
            ("*:5433:*:*:secret", None),
            ("other:*:*:*:secret", None),
            ("*:*:*:somebody:secret", None),
            ("# *:*:*:*:secret", None),
            ("*:*:*:vault", None),
            ("", None),
        ] {
            assert_eq!(found(line, &tcp()).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_socket_is_found_by_its_directory_and_as_localhost() {
        let unix = || Host::Unix("/run/postgresql".into());
        for (line, expected) in [
            ("/run/postgresql:*:*:*:secret", Some("secret")),
            ("localhost:*:*:*:secret", Some("secret")),
            ("db:*:*:*:secret", None),
        ] {
            assert_eq!(found(line, &unix()).as_deref(), expected, "{line}");
        }
    }
}
