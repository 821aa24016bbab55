//! `bowstring token`: the file of tokens, which the coordinator reads by itself.

mod issue;
mod list;
mod revoke;

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Subcommand};

use super::config::{ServeSettings, Settings};
use super::error::CliError;
use crate::server::TokenEntry;

/// Issue, revoke and list the tokens of a coordinator's file
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    Issue(issue::IssueArgs),
    Revoke(revoke::RevokeArgs),
    List(list::ListArgs),
}

/// Which file.
#[derive(Debug, Args)]
struct TokensFile {
    /// The file of tokens, as `bowstring serve --auth-tokens` has it [default: that of --config]
    #[arg(long, value_name = "FILE", env = "BOWSTRING_AUTH_TOKENS")]
    tokens: Option<PathBuf>,
}

impl TokensFile {
    fn path(&self, settings: &Settings) -> Result<PathBuf, CliError> {
        if let Some(path) = &self.tokens {
            return Ok(path.clone());
        }
        let of_file = settings.serve(&ServeSettings::default())?.auth.tokens;
        of_file.ok_or_else(|| CliError::usage("no file of tokens is named; say --tokens FILE, or BOWSTRING_AUTH_TOKENS"))
    }
}

pub(super) fn run(args: TokenArgs, settings: &Settings) -> Result<(), CliError> {
    match args.command {
        TokenCommand::Issue(args) => issue::run(&args, settings),
        TokenCommand::Revoke(args) => revoke::run(&args, settings),
        TokenCommand::List(args) => list::run(&args, settings),
    }
}

#[expect(clippy::disallowed_methods, reason = "a token's times are the wall's clock's")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// What became of a token.
fn state(entry: &TokenEntry, now: SystemTime) -> &'static str {
    match (entry.revoked, entry.expires) {
        (Some(_), _) => "revoked",
        (None, Some(expires)) if expires <= now => "expired",
        (None, _) => "valid",
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
