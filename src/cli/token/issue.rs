//! `bowstring token issue`.

use std::time::Duration;

use clap::Args;

use super::{TokensFile, now, time};
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::print_lines;
use crate::cli::quantity::Span;
use crate::server::{Permissions, issue_token};

/// Longest life of a token that has an end: ten years.
const LASTS_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Make a token and print it, once: its file has nothing but its hash
#[derive(Debug, Args)]
#[command(after_help = "\
VERB is append (create, append, commit), read (by subscriptions, and what peek does), peek (without one), or admin
(everything, and deleting). * in STREAM stands for any text. `metrics` alone lets see /metrics.

Examples:
  bowstring token issue spark --allow append:flights --expires 90d --tokens tokens.json > spark.token
  bowstring token issue workers --allow 'read:flights*' --allow append:results
  bowstring token issue prometheus --allow metrics")]
pub(super) struct IssueArgs {
    /// The principal: who will use it, as errors and the audit log name it
    name: String,
    /// What it lets do; may be said several times. Nothing else is allowed
    #[arg(long, value_name = "VERB:STREAM", required = true)]
    allow: Vec<String>,
    /// How long it counts, e.g. 90d [default: until it is revoked]
    #[arg(long, value_name = "DURATION")]
    expires: Option<Span>,
    #[command(flatten)]
    file: TokensFile,
}

pub(super) fn run(args: &IssueArgs, settings: &Settings) -> Result<(), CliError> {
    let usage = |text: String| CliError::Usage { text };
    if args.name.is_empty() || args.name.chars().any(char::is_control) {
        return Err(usage("a token's principal needs a name without control characters".to_owned()));
    }
    let permissions = Permissions::parse(args.allow.iter().map(String::as_str)).map_err(|error| usage(error.to_string()))?;
    let lasts = args.expires.map(|expires| expires.0);
    if lasts.is_some_and(|lasts| lasts.is_zero() || lasts > LASTS_MAX) {
        return Err(usage(
            "a token counts for ten years at most, and for some time at least; leave --expires out for one without an end".to_owned(),
        ));
    }
    let path = args.file.path(settings)?;
    let (token, entry) = issue_token(&path, &args.name, permissions, lasts, now())?;
    let end = entry.expires.map_or_else(|| "until it is revoked".to_owned(), |expires| format!("until {}", time(expires)));
    eprintln!("token {} of {} may {}, {end}; it is shown this once:", entry.id, entry.name, entry.permissions);
    print_lines([token.reveal().to_owned()])
}
