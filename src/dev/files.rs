//! The files of an instance: readable by their owner only, replaced in one step.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::DevFault;
use crate::files::Locked;

/// Opens, or makes, the directory of an instance and answers its absolute path. Another user may
/// pass through it, for Postgres' sake when we are root, but not look into it.
pub(super) fn open_directory(directory: &Path) -> Result<PathBuf, DevFault> {
    let fault = |error| DevFault::File(directory.to_owned(), error);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(directory)
        .map_err(fault)?;
    let mode = if rustix::process::geteuid().is_root() {
        0o711
    } else {
        0o700
    };
    fs::set_permissions(directory, Permissions::from_mode(mode)).map_err(fault)?;
    let path = directory.canonicalize().map_err(fault)?;
    // It becomes part of settings and of Postgres' command line.
    let is_text = path
        .to_str()
        .is_some_and(|text| !text.chars().any(char::is_control) && text == text.trim());
    if is_text {
        Ok(path)
    } else {
        Err(DevFault::Name(path))
    }
}

/// Opens a file for writing, making it when it is not there; what is in it stays.
pub(super) fn create_private(path: &Path) -> Result<File, DevFault> {
    let mut options = OpenOptions::new();
    let opened = options.create(true).append(true).mode(0o600).open(path);
    opened.map_err(|error| DevFault::File(path.to_owned(), error))
}

/// Makes a file in one step: it is there as a whole or not at all.
pub(super) fn make_private(path: &Path, content: &[u8]) -> Result<(), DevFault> {
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    options
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| crate::files::sync_directory(path))
        .map_err(|error| DevFault::File(path.to_owned(), error))
}

/// Replaces a file in one step: a reader sees the old content or the new. One that is not there is made.
pub(super) fn rewrite(path: &Path, content: &[u8]) -> Result<(), DevFault> {
    let rewritten = Locked::wait(path).and_then(|locked| locked.replace(content));
    rewritten.map_err(|error| DevFault::File(path.to_owned(), error))
}

/// Writes a value as JSON.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), DevFault> {
    let text = serde_json::to_vec_pretty(value).expect("strings serialise");
    rewrite(path, &text)
}

/// Reads a value that [`write_json`] wrote.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, DevFault> {
    let text = fs::read(path).map_err(|error| DevFault::File(path.to_owned(), error))?;
    serde_json::from_slice(&text).map_err(|_| DevFault::Malformed(path.to_owned()))
}
