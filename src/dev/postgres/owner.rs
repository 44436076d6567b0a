//! Who the private Postgres runs as: we, or somebody else when we are root.

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use super::{super::DevFault, PostgresFault};

/// Where clusters go when the instance's directory cannot be reached by another user.
const REACHABLE: &str = "/var/lib/grantex-vault-dev";

/// A user that Postgres agrees to run as.
pub(super) enum Owner {
    /// The user who started us.
    Ourselves,
    /// We are root; this is not.
    Other {
        /// Its number.
        uid: u32,
        /// Its group's.
        gid: u32,
    },
}

impl Owner {
    /// Ourselves, unless we are root: then `postgres`, else `nobody`.
    pub(super) fn choose() -> Result<Self, PostgresFault> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = ["postgres", "nobody"].iter().find_map(|name| {
            // name:password:uid:gid:…
            let entry = |line: &&str| line.split(':').next() == Some(name);
            let mut fields = users.lines().find(entry)?.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        });
        let (uid, gid) = found.ok_or(PostgresFault::NoUser)?;
        Ok(Self::Other { uid, gid })
    }

    /// Runs a command as this user.
    pub(super) fn apply(&self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            command.uid(*uid).gid(*gid);
        }
    }

    /// Gives a file to this user.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Ourselves => Ok(()),
            Self::Other { uid, gid } => chown(path, Some(*uid), Some(*gid)),
        }
    }

    /// A directory of this user's for the cluster: inside the instance's, unless the way there is
    /// closed to it (a clone under `/root`, say). Then it is elsewhere, under a name that is kept.
    pub(super) fn home_of_cluster(&self, directory: &Path) -> Result<PathBuf, DevFault> {
        let home = if self.can_reach(directory) {
            directory.join("postgres")
        } else {
            let name = directory.join("cluster-name");
            if !name.exists() {
                let fresh = uuid::Uuid::new_v4().simple().to_string();
                super::super::files::make_private(&name, fresh.as_bytes())?;
            }
            let kept = fs::read_to_string(&name).map_err(|error| DevFault::File(name, error))?;
            Path::new(REACHABLE).join(kept.trim())
        };
        let fault = |error| DevFault::File(home.clone(), error);
        fs::create_dir_all(&home).map_err(fault)?;
        self.give(&home).map_err(fault)?;
        Ok(home)
    }

    fn can_reach(&self, directory: &Path) -> bool {
        let Self::Other { uid, gid } = self else {
            return true;
        };
        directory.ancestors().all(|step| {
            fs::metadata(step).is_ok_and(|found| {
                let mode = found.mode();
                mode & 0o001 != 0
                    || (found.uid() == *uid && mode & 0o100 != 0)
                    || (found.gid() == *gid && mode & 0o010 != 0)
            })
        })
    }
}
