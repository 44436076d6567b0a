//! Files that the program rewrites. One command at a time changes a file; a reader sees the old content or
//! the new, also after a crash; mode, owner and group stay, and so does a link that leads to the file; and
//! what it was before stands beside it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

/// How long another command may take to change a file.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Only its owner can read it.
const PRIVATE: u32 = 0o600;
/// Where Linux keeps the access control list of a file.
const ACCESS_LIST: &str = "system.posix_acl_access";

/// A file that nobody else changes while this is there.
#[derive(Debug)]
pub struct Locked {
    /// The file itself, whatever link was named.
    path: PathBuf,
    _lock: File,
}

impl Locked {
    /// Waits until no other command changes a file; it need not be there yet. Beside it is a file
    /// `<name>.lock`, which stays.
    ///
    /// # Errors
    ///
    /// When another command takes too long; when the lock cannot be opened.
    pub fn wait(path: &Path) -> io::Result<Self> {
        let path = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            found => found?,
        };
        let lock = open_lock(&path)?;
        let end = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path, _lock: lock }),
                Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(LOOK_EVERY),
                Err(TryLockError::WouldBlock) => {
                    let why = "another command is changing it";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Replaces the content in one step, and keeps the last one as `<name>.bak`. A file that is not there
    /// yet is made, for its owner only.
    ///
    /// # Errors
    ///
    /// When a file cannot be written, or mode, owner or group not be kept. The file is as it was then.
    pub fn replace(&self, content: &[u8]) -> io::Result<()> {
        let kept = match File::open(&self.path) {
            Ok(mut file) => {
                let kept = file.metadata()?;
                can_be_kept(&self.path, &kept)?;
                // Room from the start: growing would leave a copy of a secret behind.
                let room = usize::try_from(kept.len()).unwrap_or_default() + 1;
                let mut last = Zeroizing::new(Vec::with_capacity(room));
                file.read_to_end(&mut last)?;
                self.put(&beside(&self.path, ".bak"), &last, Some(&kept))?;
                Some(kept)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.put(&self.path, content, kept.as_ref())
    }

    /// Writes beside a file and renames over it.
    fn put(&self, path: &Path, content: &[u8], kept: Option<&fs::Metadata>) -> io::Result<()> {
        let new = beside(&self.path, ".new");
        // Of a command that was killed: nobody else has the lock.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(PRIVATE)
            .open(&new)?;
        let written = keep(&file, kept)
            .and_then(|()| file.write_all(content))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written?;
        sync_directory(path)
    }
}

/// Makes the names in a file's directory durable.
///
/// # Errors
///
/// When it cannot be opened or flushed.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent();
    let directory = directory.filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Refuses a file of which more must be kept than can be: an access control list, whose mask its mode would be
/// taken for, and other names of the same file, which would go on to lead to what it was.
fn can_be_kept(path: &Path, kept: &fs::Metadata) -> io::Result<()> {
    let refused = |why| Err(io::Error::new(io::ErrorKind::Unsupported, why));
    if kept.nlink() > 1 {
        return refused(
            "it has another name (a hard link), which would go on to lead to the old content",
        );
    }
    // A file system without them has no such attribute either.
    let has_list = rustix::fs::getxattr_query(path, ACCESS_LIST).is_ok_and(|size| size > 0);
    if has_list {
        return refused(
            "it has an access control list (getfacl), which would be lost: take it off",
        );
    }
    Ok(())
}

/// Opens the lock of a file, which belongs to whom the file belongs to: everybody who may change the one
/// may lock the other.
fn open_lock(path: &Path) -> io::Result<File> {
    let lock = beside(path, ".lock");
    let mut options = OpenOptions::new();
    options.write(true).mode(PRIVATE).create_new(true);
    match options.open(&lock) {
        Ok(file) => {
            let kept = fs::metadata(path).ok();
            let kept = keep(&file, kept.as_ref());
            if kept.is_err() {
                // Of the wrong owner it would lock out the right one.
                let _ = fs::remove_file(&lock);
            }
            kept.map(|()| file)
        }
        // That the file can be read is enough: a keyring may be read-only between its changes.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(&lock),
        Err(error) => Err(error),
    }
}

/// Gives a new file the owner, the group and the mode of another.
fn keep(file: &File, kept: Option<&fs::Metadata>) -> io::Result<()> {
    let Some(kept) = kept else {
        return Ok(());
    };
    let now = file.metadata()?;
    if (now.uid(), now.gid()) != (kept.uid(), kept.gid()) {
        fchown(file, Some(kept.uid()), Some(kept.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(kept.mode() & 0o7777))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_made_for_its_owner_and_has_no_version_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        Locked::wait(&path).unwrap().replace(b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, PRIVATE);
        assert!(!beside(&path, ".bak").exists());
        Locked::wait(&path).unwrap().replace(b"two").unwrap();
        assert_eq!(fs::read(beside(&path, ".bak")).unwrap(), b"one");
    }

    #[test]
    fn what_a_killed_command_left_behind_is_in_nobody_s_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "one").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        fs::write(beside(&path, ".new"), "half").unwrap();
        fs::write(beside(&path, ".lock"), "").unwrap();
        Locked::wait(&path).unwrap().replace(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(!beside(&path, ".new").exists());
    }

    #[test]
    fn a_file_that_is_read_only_between_its_changes_can_be_changed_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "one").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        for content in [b"two", b"six"] {
            Locked::wait(&path).unwrap().replace(content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o400);
        }
    }

    #[test]
    fn what_could_not_be_kept_of_a_file_refuses_its_change() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (
            directory.path().join("file"),
            directory.path().join("other"),
        );
        fs::write(&path, "one").unwrap();
        fs::hard_link(&path, &other).unwrap();
        let refused = Locked::wait(&path).unwrap().replace(b"two").unwrap_err();
        assert!(refused.to_string().contains("hard link"), "{refused}");
        fs::remove_file(&other).unwrap();
        // For user 1234: version 2, then tag, permissions and id of each entry, as acl(5) has them.
        let mut list = vec![2, 0, 0, 0];
        for (tag, permissions, id) in [
            (1_u16, 6_u16, u32::MAX),
            (2, 4, 1234),
            (4, 0, u32::MAX),
            (16, 4, u32::MAX),
            (32, 0, u32::MAX),
        ] {
            list.extend(tag.to_le_bytes());
            list.extend(permissions.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&path, ACCESS_LIST, &list, flags).is_ok() {
            let refused = Locked::wait(&path).unwrap().replace(b"two").unwrap_err();
            assert!(
                refused.to_string().contains("access control list"),
                "{refused}"
            );
            assert_eq!(fs::read(&path).unwrap(), b"one");
        }
    }

    #[test]
    fn a_file_is_changed_by_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let locked = Locked::wait(&path).unwrap();
                    let number: u32 = fs::read_to_string(&path).unwrap().parse().unwrap();
                    locked.replace((number + 1).to_string().as_bytes()).unwrap();
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "8");
    }
}
