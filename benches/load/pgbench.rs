//! `pgbench`, beside which the vault is measured: the same lookup on the same database, and an insert of
//! as large a row, over the Unix socket as the vault's connections are.

use std::{fs, path::PathBuf, time::Duration};

use tokio::process::Command;
use tokio_postgres::Client;

use crate::{
    cpu,
    population::{FIRST_PRINCIPAL, Population, SERVICES},
};

/// What `Store::credential_for_exchange` looks up for many at once, for one.
const LOOKUP: &str = include_str!("lookup.sql");
const INSERT: &str = include_str!("insert.sql");
const BARE_TABLE: &str = "
    create schema bare;
    create table bare.credentials (like vault.credentials, primary key (developer_id, id))";
const CLIENTS: &str = "16";

pub(crate) struct Pgbench {
    program: PathBuf,
    url: String,
    directory: PathBuf,
    definitions: Vec<String>,
}

/// Transactions a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) lookup: f64,
    pub(crate) insert: f64,
}

impl Pgbench {
    /// That of the server's own version.
    pub(crate) async fn new(
        directory: PathBuf,
        url: &str,
        sql: &Client,
        postgres: cpu::Postgres,
        population: &Population,
    ) -> Self {
        fs::write(directory.join("lookup.sql"), LOOKUP).expect("a temporary directory");
        fs::write(directory.join("insert.sql"), INSERT).expect("a temporary directory");
        let made = sql.batch_execute(BARE_TABLE).await;
        made.expect("dev connects as superuser");
        // The secrets of a row that is there: of the size that a stored one has.
        let row = "select access_token::text, refresh_token::text, wrapped_key::text, master_key
            from vault.credentials limit 1";
        let row = sql.query_one(row, &[]).await.expect("there are some");
        let [access, refresh, wrapped, master] =
            [0, 1, 2, 3].map(|place| row.get::<_, &str>(place));
        let server = fs::read_link(format!("/proc/{}/exe", postgres.pid()));
        let server = server.expect("its user is us, or we are root");
        let last_principal = FIRST_PRINCIPAL + population.agents - 1;
        Self {
            program: server.with_file_name("pgbench"),
            url: url.to_owned(),
            directory,
            definitions: vec![
                format!("developer={}", population.developer),
                format!("first_principal={FIRST_PRINCIPAL}"),
                format!("last_principal={last_principal}"),
                format!("services={SERVICES}"),
                format!("access_token={access}"),
                format!("refresh_token={refresh}"),
                format!("wrapped_key={wrapped}"),
                format!("master_key={master}"),
            ],
        }
    }

    pub(crate) async fn measure(&self, sql: &Client, time: Duration) -> Rates {
        let rates = Rates {
            lookup: self.run("lookup.sql", time).await,
            insert: self.run("insert.sql", time).await,
        };
        let emptied = sql.batch_execute("truncate bare.credentials").await;
        emptied.expect("dev connects as superuser");
        rates
    }

    async fn run(&self, script: &str, time: Duration) -> f64 {
        let mut command = Command::new(&self.program);
        command
            .args(["-n", "-M", "prepared", "-c", CLIENTS, "-j", "2"])
            .args(["-T", &time.as_secs().to_string()])
            .arg("-f")
            .arg(self.directory.join(script));
        for definition in &self.definitions {
            command.args(["-D", definition]);
        }
        let output = command.arg(&self.url).output().await;
        let output = output.expect("it is beside the server");
        let text = String::from_utf8_lossy(&output.stdout);
        // tps = 12345.678901 (without initial connection time)
        let line = text.lines().find_map(|line| line.strip_prefix("tps = "));
        let rate = line.and_then(|line| line.split(' ').next()?.parse().ok());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pgbench said: {text}{said}");
        rate.unwrap_or_else(|| panic!("pgbench said: {text}{said}"))
    }
}
