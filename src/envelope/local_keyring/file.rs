//! The file of a local keyring: read strictly, replaced in one step.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::keyring::Keyring;
use crate::files::{self, Locked};

/// The largest keyring file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why a keyring file cannot be used. The messages name the path, never a key.
#[derive(Debug, Error)]
pub enum KeyringFault {
    /// Reading or writing failed.
    #[error("keyring {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Everybody on the machine can read the master keys.
    #[error("keyring {path} is accessible to others (mode {mode:o}): chmod 600 it")]
    Exposed {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The content is not a keyring.
    #[error("keyring {path}: {reason}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong, without any value.
        reason: &'static str,
    },
    /// A version was named that is not there.
    #[error("keyring {path} has no version {version}")]
    NoSuchVersion {
        /// The file.
        path: String,
        /// The version.
        version: u32,
    },
    /// The primary cannot be removed.
    #[error("version {version} is the primary of keyring {path}: make another one primary first")]
    Primary {
        /// The file.
        path: String,
        /// The version.
        version: u32,
    },
}

/// The JSON of a keyring.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeyringFile {
    pub(super) id: String,
    pub(super) primary: u32,
    /// The newest version that was removed, absent when none was: a version is never used twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removed: Option<u32>,
    pub(super) keys: Vec<KeyFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeyFile {
    pub(super) version: u32,
    pub(super) created_at: String,
    pub(super) key: Zeroizing<String>,
}

/// What tells one content of a path from the next: each replacement is another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of what is at a path now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from_metadata(&metadata))
    }

    fn from_metadata(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads a keyring and the stamp of the very file that it was read from.
pub(super) fn read(path: &Path) -> Result<(Keyring, Stamp), KeyringFault> {
    let fault = |source| KeyringFault::file(path, source);
    let mut file = File::open(path).map_err(fault)?;
    let metadata = file.metadata().map_err(fault)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(KeyringFault::Exposed {
            path: path.display().to_string(),
            mode,
        });
    }
    let malformed = |reason| KeyringFault::malformed(path, reason);
    if metadata.len() > MAX_FILE_BYTES {
        return Err(malformed("it is larger than 1 MiB"));
    }
    // Room from the start: growing would leave a copy of the keys behind.
    let room = usize::try_from(metadata.len()).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    file.read_to_end(&mut text).map_err(fault)?;
    let content: KeyringFile =
        serde_json::from_slice(&text).map_err(|_| malformed("it is not the JSON of a keyring"))?;
    let keyring = Keyring::from_file(content).map_err(malformed)?;
    Ok((keyring, Stamp::from_metadata(&metadata)))
}

/// Writes a keyring to a new file that only its owner can read.
pub(super) fn create(path: &Path, keyring: &Keyring) -> Result<(), KeyringFault> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| {
            file.write_all(&text(keyring)?)?;
            file.sync_all()
        })
        .and_then(|()| files::sync_directory(path))
        .map_err(|source| KeyringFault::file(path, source))
}

/// Replaces the keyring of a file that was locked before it was read.
pub(super) fn replace(locked: &Locked, path: &Path, keyring: &Keyring) -> Result<(), KeyringFault> {
    let replaced = text(keyring).and_then(|text| locked.replace(&text));
    replaced.map_err(|source| KeyringFault::file(path, source))
}

/// Waits until no other command changes a keyring.
pub(super) fn lock(path: &Path) -> Result<Locked, KeyringFault> {
    // Not beside a file that is not there.
    fs::metadata(path)
        .and_then(|_| Locked::wait(path))
        .map_err(|source| KeyringFault::file(path, source))
}

fn text(keyring: &Keyring) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(serde_json::to_vec_pretty(&keyring.to_file())?);
    text.push(b'\n');
    Ok(text)
}

// === impl KeyringFault ===

impl KeyringFault {
    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            source,
        }
    }

    pub(super) fn malformed(path: &Path, reason: &'static str) -> Self {
        Self::Malformed {
            path: path.display().to_string(),
            reason,
        }
    }
}
