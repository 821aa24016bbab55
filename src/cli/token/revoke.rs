//! `bowstring token revoke`.

use clap::Args;

use super::{TokensFile, now};
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::print_lines;
use crate::server::revoke_token;

/// Revoke a token, or all tokens of a principal: what is open by them ends within seconds
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bowstring token revoke 3f2a9c01 --tokens tokens.json\n  bowstring token revoke spark")]
pub(super) struct RevokeArgs {
    /// Its id, as `bowstring token list` shows it, or the name of a principal
    token: String,
    #[command(flatten)]
    file: TokensFile,
}

pub(super) fn run(args: &RevokeArgs, settings: &Settings) -> Result<(), CliError> {
    let revoked = revoke_token(&args.file.path(settings)?, &args.token, now())?;
    print_lines(revoked.iter().map(|entry| format!("token {} of {} is revoked", entry.id, entry.name)))
}
