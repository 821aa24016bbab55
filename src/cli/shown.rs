//! `bowstring config`: the settings that count, and where each was given.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, Subcommand};
use serde_json::{Value, json};

use super::config::{ClientSettings, GlobalArgs, ServeSettings, Settings};
use super::error::CliError;
use super::log::LogFormat;
use super::quantity::Span;
use super::serve::{self, Given};
use super::table::{Align, Columns};
use super::{print_json, print_lines};
use crate::server::{ServerConfig, ShownSetting, url_without_secrets};

/// Say which settings count, and where they come from
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    Show(Box<ShowArgs>),
}

/// Print the settings that `bowstring serve` and the other commands would run with here, and where each was given
#[derive(Debug, Args)]
#[command(after_help = "\
It takes the flags of `bowstring serve`, the environment and the file of --config, as that would; it starts nothing. Sources are flag,
environment, file and default. Tokens are never shown, nor what a URL has of names and passwords. Exit code 2: `bowstring serve` would
refuse these settings, and stderr says why. What a coordinator that runs was started with its console shows.

Examples:
  bowstring config show
  bowstring config show --config bowstring.toml --max-buffered-bytes 4GiB
  bowstring config show --json | jq '.server[] | select(.source != \"default\")'")]
struct ShowArgs {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serve: ServeSettings,
    /// Which settings came by a flag or the environment.
    #[arg(skip)]
    given: Given,
}

/// A setting, with its name in the file's table if it is in one.
struct Row {
    name: String,
    value: Value,
    /// The value as people write it.
    text: String,
    source: String,
}

/// Everything that is shown.
pub(super) struct Shown {
    file: Option<PathBuf>,
    server: Vec<Row>,
    client: Vec<Row>,
    log: Vec<Row>,
}

impl ConfigArgs {
    /// Takes note of where the settings come from.
    pub(super) fn note_sources(&mut self, matches: &ArgMatches) {
        let ConfigCommand::Show(args) = &mut self.command;
        args.given = matches.subcommand_matches("show").map(serve::given).unwrap_or_default();
    }
}

pub(super) async fn run(args: ConfigArgs, settings: &Settings, global: &GlobalArgs) -> Result<(), CliError> {
    let ConfigCommand::Show(args) = args.command;
    let (shown, config) = Shown::of(settings, &args.serve, &args.given, global).await?;
    if args.json {
        print_json(&shown.json())?;
    } else {
        print_lines(shown.lines())?;
    }
    config.validate().map_err(|error| CliError::Start(error.into()))
}

impl Shown {
    /// The settings that count with these flags, and the server's configuration that they make.
    pub(super) async fn of(
        settings: &Settings,
        flags: &ServeSettings,
        given: &Given,
        global: &GlobalArgs,
    ) -> Result<(Self, ServerConfig), CliError> {
        let sources = serve::sources(given, settings);
        let source = |name: &str, value: &str| {
            let of_file = || settings.file_names().iter().any(|one| one == value).then(|| "file".to_owned());
            given.get(name).map(|source| (*source).to_owned()).or_else(of_file).unwrap_or_else(|| "default".to_owned())
        };
        let merged = settings.serve(flags)?;
        let grace = merged.grace();
        let config = serve::config(merged, sources).await?;
        let mut server: Vec<_> = config.shown().into_iter().map(Row::of_server).collect();
        server.push(Row::of_text("shutdown_grace", &span_text(grace), source("shutdown_grace", "shutdown_grace")));
        let log = settings.log(&global.log)?;
        let filter = log.filter.clone().unwrap_or_else(|| "info for serve, warn for the others".to_owned());
        let format = match log.format.unwrap_or_default() {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let log = vec![
            Row::of_text("filter", &filter, source("log", "log.filter")),
            Row::of_text("format", format, source("log_format", "log.format")),
        ];
        Ok((Self { file: global.config.clone(), server, client: client_rows(settings)?, log }, config))
    }

    /// As `config show --json` prints it.
    pub(super) fn json(&self) -> Value {
        let rows =
            |rows: &[Row]| rows.iter().map(|row| json!({"name": row.name, "value": row.value, "source": row.source})).collect::<Vec<_>>();
        json!({"file": self.file, "server": rows(&self.server), "client": rows(&self.client), "log": rows(&self.log)})
    }

    fn lines(&self) -> Vec<String> {
        let mut columns = Columns::new([("setting", Align::Left), ("value", Align::Left), ("source", Align::Left)]);
        for (table, rows) in [("", &self.server), ("client.", &self.client), ("log.", &self.log)] {
            for row in rows {
                columns.row([format!("{table}{}", row.name), row.text.clone(), row.source.clone()]);
            }
        }
        let file = self.file.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        [format!("file: {file}"), String::new()].into_iter().chain(columns.lines()).collect()
    }
}

impl Row {
    fn of_server(shown: ShownSetting) -> Self {
        let text = match (&shown.value, shown.unit) {
            (Value::Number(number), Some("bytes")) => number.as_u64().map_or_else(|| number.to_string(), size_text),
            (Value::Number(number), Some("milliseconds")) => {
                number.as_u64().map_or_else(|| number.to_string(), |ms| span_text(Duration::from_millis(ms)))
            }
            (value, _) => value_text(value),
        };
        Self { name: shown.name.to_owned(), value: shown.value, text, source: shown.source }
    }

    fn of_text(name: &str, text: &str, source: String) -> Self {
        Self { name: name.to_owned(), value: text.into(), text: text.to_owned(), source }
    }
}

/// The settings that the environment gives, without any flag.
pub(super) fn of_environment<T: Args>() -> Result<(T, Given), CliError> {
    let unusable = |error: clap::Error| CliError::usage(error.to_string().trim_start_matches("error: ").trim_end());
    let matches = T::augment_args(Command::new("bowstring")).try_get_matches_from(["bowstring"]).map_err(unusable)?;
    Ok((T::from_arg_matches(&matches).map_err(unusable)?, serve::given(&matches)))
}

/// The clients' settings: of the environment, the file and the defaults. Their flags stand at each command, and some are called as
/// the server's are.
fn client_rows(settings: &Settings) -> Result<Vec<Row>, CliError> {
    let (flags, given) = of_environment::<ClientSettings>()?;
    let values = serde_json::to_value(settings.of_client(&flags)?).unwrap_or_default();
    let of_file = settings.file_names();
    let row = |name: &str| {
        let value = match &values[name] {
            Value::String(text) => url_without_secrets(text).into(),
            other => other.clone(),
        };
        let in_file = || if of_file.contains(&format!("client.{name}")) { "file" } else { "default" };
        let source = given.get(name).copied().unwrap_or_else(in_file).to_owned();
        Row { name: name.to_owned(), text: value_text(&value), value, source }
    };
    let command = ClientSettings::augment_args(Command::new("client"));
    let mut rows: Vec<_> = command.get_arguments().map(|argument| row(argument.get_id().as_str())).collect();
    let has_token = std::env::var_os("BOWSTRING_TOKEN").is_some_and(|token| !token.is_empty());
    let (token, source) = if has_token { ("(set, not shown)".into(), "environment") } else { (Value::Null, "default") };
    rows.push(Row { name: "token".to_owned(), text: value_text(&token), value: token, source: source.to_owned() });
    Ok(rows)
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A duration as the file takes it.
fn span_text(duration: Duration) -> String {
    Span(duration).to_string()
}

/// A size as the file takes it, without a rest that is left out.
fn size_text(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let exact = units.into_iter().find(|(_, bits)| bytes > 0 && bytes.trailing_zeros() >= *bits);
    exact.map_or_else(|| bytes.to_string(), |(unit, bits)| format!("{}{unit}", bytes >> bits))
}
