//! Settings: defaults, then a TOML file, then the environment; all faults are told at once.

use std::{
    collections::HashMap,
    env,
    fmt::{self, Write},
};

use config::{Config, Environment, File, FileFormat};
use serde::{Serialize, de::DeserializeOwned};

/// Separates the parts of a variable's name: `COUPON_GATEWAY__HTTP__LISTEN` is `http.listen`.
const SEPARATOR: &str = "__";

/// What is wrong with one setting, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The setting, such as `http.listen`.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to give instead.
    pub fix: String,
}

impl Fault {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), fix: fix.into() }
    }
}

/// The faults of a section of settings whose bounds must not be switched off: the names of those that are 0.
pub fn switched_off(section: &str, bounds: &[(&str, u64)]) -> impl Iterator<Item = Fault> {
    let off = bounds.iter().filter(|(_, value)| *value == 0);
    off.map(move |(name, _)| Fault::new(format!("{section}.{name}"), "is 0, which would be no bound at all", "give at least 1"))
}

/// The faults of `(name, value, lowest)` whose value is below its lowest.
pub fn at_least(bounds: &[(&str, u64, u64)]) -> impl Iterator<Item = Fault> {
    let below = bounds.iter().filter(|(_, value, lowest)| value < lowest);
    below.map(|(field, value, lowest)| Fault::new(*field, format!("is {value}"), format!("give at least {lowest}")))
}

/// The fault of a setting that should say where to listen and does not, with the port that is usual there.
#[must_use]
pub fn no_address(field: &str, listen: &str, port: u16) -> Option<Fault> {
    let is_address = listen.parse::<std::net::SocketAddr>().is_ok();
    (!is_address).then(|| Fault::new(field, "is not an address and port", format!("give one such as 0.0.0.0:{port}")))
}

/// Settings that can say what is wrong with them.
pub trait Validate {
    /// Every fault; none if all is well.
    fn faults(&self) -> Vec<Fault>;
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file or a variable cannot be read as what it should be.
    #[error("the settings cannot be read: {0}")]
    Unreadable(#[from] config::ConfigError),
    /// They can be read, but not used.
    #[error("{}", list(.prefix, .faults))]
    Faulty {
        /// The prefix of the variables.
        prefix: String,
        /// All faults.
        faults: Vec<Fault>,
    },
    /// `--config` without a file.
    #[error("--config needs a file behind it")]
    NoFile,
}

fn list(prefix: &str, faults: &[Fault]) -> String {
    let mut text = format!("{} faulty settings:", faults.len());
    for fault in faults {
        let variable = format!("{prefix}{SEPARATOR}{}", fault.field.to_uppercase().replace('.', SEPARATOR));
        let _ = write!(text, "\n  {} {}; {} ({variable})", fault.field, fault.problem, fault.fix);
    }
    text
}

/// Reads the settings of a service: `T`'s defaults, then the file of `--config FILE` or `<prefix>__CONFIG`, then variables that
/// begin with `<prefix>__`.
///
/// # Errors
/// What cannot be read, or all faults at once; no secret is in the message.
pub fn load<T: DeserializeOwned + Validate>(prefix: &str) -> Result<T, SettingsError> {
    let file = file_argument(env::args())?.or_else(|| env::var(format!("{prefix}{SEPARATOR}CONFIG")).ok());
    read(prefix, file.as_deref(), env::vars().collect())
}

/// As [`load`] for the first line of a service's `main`: who cannot be set up says why, in words and with nothing around them, and ends
/// with status 1. An error that `main` returns would be printed with a backtrace where `RUST_BACKTRACE` is set, and a wrong setting is no
/// matter of where in the code it was found.
#[must_use]
pub fn load_or_exit<T: DeserializeOwned + Validate>(prefix: &str) -> T {
    load(prefix).unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1)
    })
}

/// As [`load`], from given variables and file.
///
/// # Errors
/// As [`load`].
pub fn read<T: DeserializeOwned + Validate>(
    prefix: &str,
    file: Option<&str>,
    variables: HashMap<String, String>,
) -> Result<T, SettingsError> {
    let file_variable = format!("{prefix}{SEPARATOR}CONFIG");
    let variables: HashMap<String, String> = variables.into_iter().filter(|(name, _)| *name != file_variable).collect();
    let mut builder = Config::builder();
    if let Some(file) = file {
        builder = builder.add_source(File::new(file, FileFormat::Toml));
    }
    let environment = Environment::with_prefix(prefix).prefix_separator(SEPARATOR).separator(SEPARATOR).source(Some(variables));
    let settings: T = builder.add_source(environment).build()?.try_deserialize()?;
    let faults = settings.faults();
    if faults.is_empty() { Ok(settings) } else { Err(SettingsError::Faulty { prefix: prefix.to_owned(), faults }) }
}

fn file_argument(arguments: impl Iterator<Item = String>) -> Result<Option<String>, SettingsError> {
    let mut arguments = arguments.skip(1);
    while let Some(argument) = arguments.next() {
        if let Some(file) = argument.strip_prefix("--config=") {
            return Ok(Some(file.to_owned()));
        }
        if argument == "--config" {
            return arguments.next().map(Some).ok_or(SettingsError::NoFile);
        }
    }
    Ok(None)
}

/// The settings as they are in force, for the log at the start; secrets show as their type shows them, redacted.
pub struct Dump<'a, T>(pub &'a T);

impl<T: Serialize> fmt::Display for Dump<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

/// Answers `--help` and `--version` of a service and ends the process; goes on otherwise.
pub fn answer_help(binary: &str, about: &str, prefix: &str, version: &str) {
    let asks = |names: [&str; 2]| env::args().skip(1).any(|argument| names.contains(&argument.as_str()));
    if asks(["--version", "-V"]) {
        println!("{binary} {version}");
        std::process::exit(0);
    }
    if asks(["--help", "-h"]) {
        println!(
            "{about}

Usage: {binary} [--config FILE]

Options:
      --config FILE  settings in TOML; the environment goes before it
  -h, --help         this text
  -V, --version      the version

Settings come from defaults, then the file, then the environment:
  {prefix}__KAFKA__BROKERS=kafka-0:9092,kafka-1:9092   is `brokers` in the section [kafka]
  {prefix}__TELEMETRY__LOG_FORMAT=text                 lines for people instead of JSON

Examples:
  {binary} --config {binary}.toml
  {prefix}__HTTP__LISTEN=0.0.0.0:8080 {binary}"
        );
        std::process::exit(0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use domain::secret::Secret;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        http: Http,
        key: Secret,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Http {
        listen: String,
        workers: usize,
        open: bool,
    }

    impl Default for Http {
        fn default() -> Self {
            Self { listen: "127.0.0.1:1".to_owned(), workers: 2, open: false }
        }
    }

    impl Validate for Settings {
        fn faults(&self) -> Vec<Fault> {
            let mut faults = Vec::new();
            if self.http.workers == 0 {
                faults.push(Fault::new("http.workers", "is 0", "give at least 1"));
            }
            if self.key.expose().is_empty() {
                faults.push(Fault::new("key", "is missing", "give some"));
            }
            faults
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_goes_before_the_file_and_the_file_before_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("service.toml");
        std::fs::write(&file, "key = \"from-file\"\n[http]\nworkers = 3\nopen = true\n").unwrap();
        let set = variables(&[("SVC__HTTP__WORKERS", "4"), ("SVC__CONFIG", "ignored"), ("OTHER__HTTP__WORKERS", "9")]);
        let settings: Settings = read("SVC", file.to_str(), set).unwrap();
        assert_eq!((settings.http.workers, settings.http.open), (4, true));
        assert_eq!((settings.http.listen.as_str(), settings.key.expose()), ("127.0.0.1:1", "from-file"));
    }

    #[test]
    fn a_secret_of_digits_keeps_every_digit() {
        let settings: Settings = read("SVC", None, variables(&[("SVC__KEY", "00123")])).unwrap();
        assert_eq!(settings.key.expose(), "00123");
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_variables() {
        let error = read::<Settings>("SVC", None, variables(&[("SVC__HTTP__WORKERS", "0")])).unwrap_err().to_string();
        assert!(
            error.contains("SVC__HTTP__WORKERS") && error.contains("SVC__KEY") && error.contains("give at least 1"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_setting_and_a_wrong_type_are_refused_by_name() {
        let error = read::<Settings>("SVC", None, variables(&[("SVC__HTPP__WORKERS", "1")])).unwrap_err().to_string();
        assert!(error.contains("htpp"), "{error}");
        let error = read::<Settings>("SVC", None, variables(&[("SVC__HTTP__WORKERS", "many")])).unwrap_err().to_string();
        assert!(error.contains("http.workers") || error.contains("workers"), "{error}");
    }

    #[test]
    fn the_dump_shows_no_secret() {
        let settings: Settings = read("SVC", None, variables(&[("SVC__KEY", "hunter2hunter2")])).unwrap();
        let dump = Dump(&settings).to_string();
        assert!(dump.contains("127.0.0.1:1") && !dump.contains("hunter2"), "{dump}");
    }

    #[test]
    fn the_file_is_named_by_an_argument() {
        let arguments = |list: &[&str]| file_argument(list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().into_iter());
        assert_eq!(arguments(&["svc", "--config", "a.toml"]).unwrap().as_deref(), Some("a.toml"));
        assert_eq!(arguments(&["svc", "--config=b.toml"]).unwrap().as_deref(), Some("b.toml"));
        assert_eq!(arguments(&["svc"]).unwrap(), None);
        assert!(arguments(&["svc", "--config"]).is_err());
    }
}
