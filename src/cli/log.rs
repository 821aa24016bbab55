//! The log: by tracing, to stderr, as text or JSON lines.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::error::CliError;

/// How and how much is logged.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogSettings {
    /// What is logged to stderr: error, warn, info, debug, trace or off, also per module ("bowstring::server=debug")
    /// [default: info for serve, warn for the others]
    #[arg(id = "log", long = "log", global = true, value_name = "FILTER", env = "BOWSTRING_LOG", help_heading = "Global options")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) filter: Option<String>,
    /// How it is written [default: text]
    #[arg(
        id = "log_format",
        long = "log-format",
        global = true,
        value_name = "FORMAT",
        env = "BOWSTRING_LOG_FORMAT",
        help_heading = "Global options"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<LogFormat>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging. Where a log is set up already (the command runs inside a Python process that has one), that stays.
pub(super) fn start(settings: &LogSettings, level_default: &str) -> Result<(), CliError> {
    let wanted = settings.filter.as_deref().unwrap_or(level_default);
    let filter = EnvFilter::try_new(wanted)
        .map_err(|error| CliError::usage(format!("--log {wanted:?} is no filter ({error}); write for instance info or bowstring=debug")))?;
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    let started = match settings.format.unwrap_or_default() {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    drop(started);
    Ok(())
}
