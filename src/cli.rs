//! The command line: parse, act, say what happened, exit code.

mod api_key;
mod audit;
mod developer;
mod doctor;
mod exit;
mod grant;
mod health;
mod import;
mod keyring;
mod master_key;
mod output;
mod progress;
mod settings_args;
mod target;
mod token;
mod webhook_secret;

use std::{error::Error, io, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::{
    app,
    config::{self, Config},
    descriptors,
    dev::{self, DevFault, Given},
    memory,
    store::schema,
    telemetry::{self, Telemetry},
};
use output::{errln, outln};
use settings_args::SettingsArgs;
use target::Target;

/// What a command ends with: nothing, or a sentence for a person.
type Outcome = Result<(), Box<dyn Error>>;

const CORE_DUMPS_ALLOWED: &str = "GRANTEX_VAULT_ALLOW_CORE_DUMPS=true: this process can be dumped \
                                  and debugged, and what is read that way includes secrets";

/// A credential vault for AI agents.
///
/// A developer's backend stores the upstream credential of an end user; an AI agent with a grant
/// token receives its access token at runtime. In between it exists only as ciphertext.
#[derive(Parser)]
#[command(name = "grantex-vault", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve gRPC and HTTP, configured by flags and environment.
    Serve {
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Serve on this machine with nothing else to start: a private Postgres, a local keyring, a
    /// development issuer, a developer with an API key.
    Dev(DevArgs),
    /// Look at everything that a server of this configuration needs, and say what to fix; exit code 1
    /// when there is something.
    Doctor {
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Ask a running vault whether it is ready; exit code 1 when it is not.
    Health(health::HealthArgs),
    /// Bring the database's schema up to this version.
    Migrate {
        #[command(flatten)]
        target: Target,
    },
    /// Register, list, suspend and delete developers.
    Developer {
        #[command(subcommand)]
        command: developer::Command,
    },
    /// Make, list and revoke API keys.
    ApiKey {
        #[command(subcommand)]
        command: api_key::Command,
    },
    /// Make and change local keyring files (GRANTEX_VAULT_MASTER_KEY=local:<file>).
    Keyring {
        #[command(subcommand)]
        command: keyring::Command,
    },
    /// Move credentials to another master key, and check that they open.
    MasterKey {
        #[command(subcommand)]
        command: master_key::Command,
    },
    /// Take over what another vault has.
    Import {
        #[command(subcommand)]
        command: import::Command,
    },
    /// Prove, show and prune the audit record.
    Audit {
        #[command(subcommand)]
        command: audit::Command,
    },
    /// Revoke grants; sign grant tokens with a development issuer.
    Grant {
        #[command(subcommand)]
        command: grant::Command,
    },
    /// Set what a Grantex auth service signs its webhooks with.
    WebhookSecret {
        #[command(subcommand)]
        command: webhook_secret::Command,
    },
    /// Revoke grant tokens.
    Token {
        #[command(subcommand)]
        command: token::Command,
    },
}

#[derive(Args)]
struct DevArgs {
    /// Where everything is kept between starts.
    #[arg(long, value_name = "DIR", default_value = dev::DEFAULT_DIR)]
    data_dir: PathBuf,
    /// Print one JSON line when ready, instead of what to try.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// The tree of commands, for who checks it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments name.
pub async fn run() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(parsed) => parsed.command,
        Err(error) => return shown(&error),
    };
    let outcome = match prepare(&command) {
        Ok(telemetry) => {
            let outcome = Box::pin(act(command)).await;
            if let Some(telemetry) = telemetry {
                telemetry.stop().await;
            }
            outcome
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let failure: Option<&exit::Failure> = error.downcast_ref();
            if let Some(failure) = failure {
                failure.tell();
                return failure.code.into();
            }
            errln!("grantex-vault: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Shows what clap has instead of a command: help and the version as a result, or what is wrong.
fn shown(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let _ = error.print();
    } else if let Err(unwritten) = error.print().and_then(|()| output::flush()) {
        let failure = exit::Failure::unwritten(&unwritten);
        failure.tell();
        return failure.code.into();
    }
    let code = u8::try_from(error.exit_code());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// What comes before every command, and before it reads a secret: a server logs from here on, and
/// nobody looks into the process' memory. A server may have as many connections as the system allows.
fn prepare(command: &Command) -> Result<Option<Telemetry>, Box<dyn Error>> {
    let settings = match command {
        Command::Serve { settings } | Command::Dev(DevArgs { settings, .. }) => Some(settings),
        _ => None,
    };
    let lookup = |name: &str| {
        let flag = settings.and_then(|settings| settings.get(name));
        flag.or_else(|| config::environment(name))
    };
    let telemetry = match settings {
        Some(_) => Some(telemetry::start(&config::telemetry(
            &lookup,
            config::environment_names(),
        )?)?),
        None => None,
    };
    if !config::core_dumps_allowed(&lookup)? {
        memory::protect().map_err(|error| {
            let way_out = "GRANTEX_VAULT_ALLOW_CORE_DUMPS=true starts without";
            format!("core dumps cannot be switched off ({way_out}): {error}")
        })?;
    } else if telemetry.is_some() {
        tracing::warn!("{CORE_DUMPS_ALLOWED}");
    } else {
        errln!("grantex-vault: {CORE_DUMPS_ALLOWED}");
    }
    if telemetry.is_some()
        && let Err(error) = descriptors::raise_limit()
    {
        tracing::warn!(%error, "the limit of file descriptors cannot be raised");
    }
    Ok(telemetry)
}

async fn act(command: Command) -> Outcome {
    match command {
        Command::Serve { settings } => {
            let lookup = |name: &str| settings.get(name).or_else(|| config::environment(name));
            let serving = app::serve(Config::read(&lookup)?);
            Box::pin(serving).await.map_err(explain)
        }
        Command::Dev(args) => {
            let given = Given {
                flags: &|name| args.settings.get(name),
                environment: &config::environment,
            };
            let announce = if args.json {
                announce_json
            } else {
                announce_text
            };
            let running = dev::run(&args.data_dir, given, announce);
            Box::pin(running).await.map_err(|fault| match fault {
                DevFault::Announce(error) => exit::Failure::unwritten(&error).into(),
                fault => explain(fault),
            })
        }
        Command::Doctor { settings } => {
            let lookup = |name: &str| settings.get(name).or_else(|| config::environment(name));
            doctor::run(&lookup).await
        }
        Command::Health(args) => health::run(args).await,
        Command::Migrate { target } => migrate(&target).await,
        Command::Developer { command } => developer::run(command).await,
        Command::ApiKey { command } => api_key::run(command).await,
        Command::Keyring { command } => keyring::run(command).await,
        Command::MasterKey { command } => Box::pin(master_key::run(command)).await,
        Command::Import { command } => import::run(command).await,
        Command::Audit { command } => audit::run(command).await,
        Command::Grant { command } => grant::run(command).await,
        Command::Token { command } => token::run(command).await,
        Command::WebhookSecret { command } => webhook_secret::run(command).await,
    }
}

async fn migrate(target: &Target) -> Outcome {
    let database = target.database()?;
    let migrated = schema::migrate(&database.migrate_url, database.role.as_ref())
        .await
        .map_err(explain)?;
    outln!(
        "schema version {}: {}",
        migrated.version,
        match migrated.applied {
            0 => "nothing to do".to_owned(),
            1 => "1 migration applied".to_owned(),
            many => format!("{many} migrations applied"),
        }
    );
    Ok(())
}

/// An error with what caused it, for a person; a cause that was said already is not said twice.
fn explain(error: impl Error + 'static) -> Box<dyn Error> {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text.into()
}

fn announce_json(instance: &dev::Instance) -> io::Result<()> {
    let line = serde_json::to_string(instance).expect("strings serialise");
    output::try_write(format_args!("{line}\n"))
}

fn announce_text(instance: &dev::Instance) -> io::Result<()> {
    output::try_write(format_args!("{}\n", instance.what_to_try()))
}
