//! A flag for every setting that is no secret, made from the table of settings.

use std::collections::HashMap;

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::config::{SETTINGS, Setting};

/// The settings that were given as flags.
#[derive(Debug, Default)]
pub(super) struct SettingsArgs(HashMap<&'static str, String>);

impl SettingsArgs {
    /// The flag's value for a setting.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

/// What a help says of the settings that have no flag.
pub(super) fn from_environment(settings: &[Setting]) -> String {
    let secrets = settings.iter().filter(|setting| setting.secret);
    let secrets =
        secrets.map(|setting| format!("  {}\n          {}", variables(setting), setting.help));
    let secrets: Vec<String> = secrets.collect();
    format!("Only from the environment:\n{}", secrets.join("\n"))
}

/// The variables that set it: one with the value, and one with a file that holds it.
fn variables(setting: &Setting) -> String {
    match setting.file_variable() {
        Some(file) => format!("{}, {file}", setting.name),
        None => setting.name.to_owned(),
    }
}

impl Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        let after = from_environment(&SETTINGS);
        let flags = SETTINGS.iter().filter_map(|setting| {
            let default = setting.default.map(|value| format!(" [default: {value}]"));
            let help = format!(
                "{}{} [env: {}]",
                setting.help,
                default.unwrap_or_default(),
                variables(setting)
            );
            let arg = Arg::new(setting.name)
                .long(setting.flag()?)
                .value_name("VALUE")
                .help(help);
            Some(arg.help_heading("Settings"))
        });
        command.args(flags).after_help(after)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for setting in SETTINGS.iter().filter(|setting| setting.flag().is_some()) {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                self.0.insert(setting.name, value.clone());
            }
        }
        Ok(())
    }
}
