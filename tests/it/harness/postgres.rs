//! Postgres, started by the tests themselves: one cluster for all of them, and one of its own for a
//! test that stops it. It is gone when the test process is, however that ends.

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt, chown},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use grantex_vault::{config::find_on_path, store::schema};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::OnceCell;
use tokio_postgres::NoTls;

use super::until;

const TEMPLATE: &str = "template_vault";

/// Runs beside a cluster, its input held open by the test process: when that ends, it ends the
/// cluster and removes its directory. `$1` is the directory.
const REAPER: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
pidfile="$1/data/postmaster.pid"
pid=$(head -n 1 "$pidfile" 2>/dev/null)
if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = postgres ]; then
    kill -INT "$pid"
    tries=0
    while [ -e "$pidfile" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
    [ -e "$pidfile" ] && kill -QUIT "$pid"
fi
rm -rf "$1"
"#;

/// A running Postgres that listens on a Unix socket in a private directory.
pub(crate) struct Cluster {
    directory: PathBuf,
    /// Settings of this one, which take the place of those of all.
    settings: Vec<String>,
    bin: PathBuf,
    user: Option<(u32, u32)>,
    postmaster: Mutex<Option<Child>>,
    _reaper_input: ChildStdin,
}

static SHARED: OnceCell<Cluster> = OnceCell::const_new();
static DATABASES: AtomicUsize = AtomicUsize::new(0);

impl Cluster {
    /// The one that most tests share.
    pub(crate) async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    /// A new one, with a migrated template.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[], &[]).await
    }

    /// A new one with settings of its own (`name=value`) and files in its data directory.
    pub(crate) async fn start_with(settings: &[&str], files: &[(&str, &str)]) -> Self {
        let bin = binaries();
        let user = unprivileged_user();
        let name = format!("grantex-vault-it-{}", uuid::Uuid::new_v4());
        let directory = Path::new("/tmp").join(name);
        // Before the directory, so that there is never one without a reaper.
        let reaper_input = spawn_reaper(&directory);
        let mut private = fs::DirBuilder::new();
        private
            .mode(0o700)
            .create(&directory)
            .expect("/tmp can be written");
        if let Some((uid, gid)) = user {
            chown(&directory, Some(uid), Some(gid)).expect("root may give a directory away");
        }
        let cluster = Self {
            directory,
            settings: settings.iter().copied().map(str::to_owned).collect(),
            bin,
            user,
            postmaster: Mutex::new(None),
            _reaper_input: reaper_input,
        };
        let made = cluster
            .program("initdb")
            .args([
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--no-sync",
                "--no-locale",
                "--encoding=UTF8",
            ])
            .args(["--username=postgres", "--pgdata"])
            .arg(cluster.data())
            .status();
        assert!(made.expect("initdb runs").success(), "initdb: see /tmp");
        for (name, content) in files {
            cluster.write_data_file(name, content);
        }
        cluster.start_again().await;

        let administrator = connect(&cluster.url("postgres")).await;
        let sql = format!("create database {TEMPLATE}");
        administrator.batch_execute(&sql).await.unwrap();
        let template = cluster.url(TEMPLATE).parse().unwrap();
        schema::migrate(&template, None)
            .await
            .expect("the schema migrates");
        cluster
    }

    /// A new migrated database; answers its URL.
    pub(crate) async fn database(&self) -> String {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("vault_{number}");
        let administrator = connect(&self.url("postgres")).await;
        let sql = format!("create database {name} template {TEMPLATE}");
        administrator.batch_execute(&sql).await.unwrap();
        self.url(&name)
    }

    /// A new database without a schema; answers its URL.
    pub(crate) async fn empty_database(&self) -> String {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("empty_{number}");
        let administrator = connect(&self.url("postgres")).await;
        let sql = format!("create database {name}");
        administrator.batch_execute(&sql).await.unwrap();
        self.url(&name)
    }

    /// Ends it in order (`SIGINT`: connections are cut) and waits until it is gone.
    pub(crate) async fn stop(&self) {
        self.end(Signal::INT).await;
    }

    /// Ends it as a crash would (`SIGQUIT`: no checkpoint) and waits until it is gone.
    pub(crate) async fn crash(&self) {
        self.end(Signal::QUIT).await;
    }

    /// Starts it, again after it ended, and waits until it takes connections.
    pub(crate) async fn start_again(&self) {
        let mut command = self.program("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(&self.directory)
            .args(["-c", "listen_addresses="])
            .args(["-c", "max_connections=300"])
            // What a committed write is worth is the vault's business: fsync and synchronous_commit are
            // on, as they are by default, where a test may change them while it runs.
            .args(["-c", "shared_buffers=64MB"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let child = command.spawn().expect("postgres starts");
        *self.postmaster.lock().unwrap() = Some(child);
        until("postgres is ready", async || self.is_ready()).await;
    }

    fn is_ready(&self) -> bool {
        if let Some(child) = self.postmaster.lock().unwrap().as_mut() {
            let ended = child.try_wait().expect("our own child");
            let log = || fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "postgres did not start: {}", log());
        }
        let status = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        status.lines().nth(7).map(str::trim) == Some("ready")
    }

    async fn end(&self, signal: Signal) {
        let mut child = self.postmaster.lock().unwrap().take().expect("it runs");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process has an id"), signal).expect("our own child");
        until("postgres is gone", async || {
            let ended = child.try_wait().expect("our own child");
            ended.is_some_and(|status| status.code().is_some() || status.signal().is_some())
        })
        .await;
    }

    /// From now on no file of it can grow beyond so many bytes (`RLIMIT_FSIZE`), as if the disk were
    /// full for those that have them; or all can grow again.
    pub(crate) async fn limit_files(&self, bytes: Option<u64>) {
        const SQL: &str = "select pid from pg_stat_activity where backend_type = 'client backend'";
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let prlimit = find_on_path("prlimit").expect("util-linux is installed");
        let limit_one = |pid: &str| {
            // As the same user: then it needs no privilege.
            let mut limiting = self.program(prlimit.to_str().expect("a plain path"));
            limiting.args(["--pid", pid, &format!("--fsize={limit}:")]);
            let limited = limiting.status().expect("prlimit runs").success();
            // A session may have ended meanwhile.
            assert!(limited || !Path::new("/proc").join(pid).exists(), "{pid}");
        };
        // First who makes the others, so that none is missed.
        let postmaster = self.postmaster.lock().unwrap().as_ref().map(Child::id);
        limit_one(&postmaster.expect("it runs").to_string());
        let administrator = connect(&self.url("postgres")).await;
        for row in administrator.query(SQL, &[]).await.unwrap() {
            limit_one(&row.get::<_, i32>(0).to_string());
        }
    }

    /// Writes a file that only the server can read.
    fn write_data_file(&self, name: &str, content: &str) {
        let path = self.data().join(name);
        let mut private = fs::OpenOptions::new();
        let file = private.write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(content.as_bytes()));
        written.expect("the directory is ours");
        if let Some((uid, gid)) = self.user {
            chown(&path, Some(uid), Some(gid)).expect("root may give a file away");
        }
    }

    fn url(&self, database: &str) -> String {
        let directory = self.directory.display();
        let port = self
            .settings
            .iter()
            .find_map(|one| one.strip_prefix("port="));
        let port = port.unwrap_or("5432");
        format!("postgres:///{database}?host={directory}&port={port}&user=postgres&sslmode=disable")
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Postgres refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .expect("the directory is ours");
        let mut command = Command::new(self.bin.join(name));
        command
            .current_dir(&self.directory)
            .env_clear()
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// A connection of the test itself.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("the test's own Postgres answers");
    // Ends with the client, whose calls have its errors.
    tokio::spawn(connection);
    client
}

#[expect(
    clippy::zombie_processes,
    reason = "it outlives us: whom it waits for is this process"
)]
fn spawn_reaper(directory: &Path) -> ChildStdin {
    let mut reaper = Command::new("sh")
        .args(["-c", REAPER, "reaper"])
        .arg(directory)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs");
    reaper.stdin.take().expect("it was asked for")
}

/// The highest installed version, else what is on `PATH`.
pub(crate) fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let versions = versions.filter_map(|entry| {
        let path = entry.ok()?.path();
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        let bin = path.join("bin");
        bin.join("initdb").is_file().then_some((version, bin))
    });
    let highest = versions.max().map(|(_, bin)| bin);
    let on_path = || Some(find_on_path("initdb")?.parent()?.to_owned());
    highest
        .or_else(on_path)
        .expect("Postgres is installed: apt-get install postgresql")
}

/// Whom to run as; `None` when we are not root already.
fn unprivileged_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("a system with users");
    let find = |name: &str| {
        let mut fields = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let fields = fields.find(|fields| fields.first() == Some(&name))?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    Some(
        find("postgres")
            .or_else(|| find("nobody"))
            .expect("a user that is not root"),
    )
}
