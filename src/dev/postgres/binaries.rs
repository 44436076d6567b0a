//! Where the system keeps Postgres' server programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::config;

/// A directory with `initdb` and `postgres`.
pub(super) struct Binaries(PathBuf);

/// Directories with one subdirectory a version, and what follows the version.
const VERSIONED: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
];
const PLAIN: [&str; 3] = [
    "/opt/homebrew/opt/postgresql/bin",
    "/usr/local/opt/postgresql/bin",
    "/usr/local/pgsql/bin",
];

impl Binaries {
    /// The named directory; else the newest version, or the one that the cluster was made by.
    pub(super) fn find(named: Option<&str>, cluster: &Path) -> Option<Self> {
        if let Some(named) = named {
            return usable(PathBuf::from(named));
        }
        let made_by = fs::read_to_string(cluster.join("PG_VERSION")).unwrap_or_default();
        let made_by: Option<u32> = made_by.trim().parse().ok();
        let mut versions: Vec<(u32, PathBuf)> = VERSIONED.iter().flat_map(versions_in).collect();
        versions.sort_by_key(|(version, _)| (Some(*version) == made_by, *version));
        let newest_first = versions.into_iter().rev().map(|(_, directory)| directory);
        let on_path = config::find_on_path("postgres")
            .and_then(|program| program.canonicalize().ok())
            .and_then(|program| program.parent().map(Path::to_path_buf));
        newest_first
            .chain(PLAIN.map(PathBuf::from))
            .chain(on_path)
            .find_map(usable)
    }

    /// One of the programs.
    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }
}

fn usable(directory: PathBuf) -> Option<Binaries> {
    let has = |program: &str| directory.join(program).is_file();
    (has("initdb") && has("postgres")).then_some(Binaries(directory))
}

fn versions_in((parent, prefix, inner): &(&str, &str, &str)) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let version = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
        Some((version, entry.path().join(inner)))
    };
    entries.filter_map(version).collect()
}
