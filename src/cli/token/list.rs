//! `bowstring token list`.

use clap::Args;
use serde_json::{Value, json};

use super::{TokensFile, now, state, time};
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::table::{Align, Columns};
use crate::cli::{print_json, print_lines};
use crate::server::{TokenEntry, list_tokens};

/// List tokens: whose they are, what they let do, and until when
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bowstring token list --tokens tokens.json\n  bowstring token list --json | jq -r '.[].name'")]
pub(super) struct ListArgs {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: TokensFile,
}

pub(super) fn run(args: &ListArgs, settings: &Settings) -> Result<(), CliError> {
    let (tokens, now) = (list_tokens(&args.file.path(settings)?)?, now());
    if args.json {
        let all: Vec<_> = tokens.iter().map(|entry| as_json(entry, state(entry, now))).collect();
        return print_json(&Value::Array(all));
    }
    let of = ["id", "name", "state", "created", "expires", "permissions"];
    let mut columns = Columns::new(of.map(|name| (name, Align::Left)));
    for entry in &tokens {
        let expires = entry.expires.map_or_else(|| "-".to_owned(), time);
        let permissions = entry.permissions.to_string();
        columns.row([entry.id.clone(), entry.name.clone(), state(entry, now).to_owned(), time(entry.created), expires, permissions]);
    }
    print_lines(columns.lines())
}

fn as_json(entry: &TokenEntry, state: &str) -> Value {
    json!({
        "id": entry.id, "name": entry.name, "state": state, "created": time(entry.created), "expires": entry.expires.map(time),
        "revoked": entry.revoked.map(time), "permissions": entry.permissions,
    })
}
