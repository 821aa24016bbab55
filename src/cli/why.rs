//! `bowstring why`: who waits for whom in a stream, and since when.

use clap::Args;
use serde_json::json;

use super::config::{ClientSettings, Settings};
use super::error::CliError;
use super::{print_json, print_lines};
use crate::engine::StreamName;

/// Say who waits for whom in a stream, and since when
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bowstring why flights\n  bowstring why flights --json | jq -r '.reasons[].text'")]
pub(super) struct WhyArgs {
    /// Name of the stream
    stream: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: WhyArgs, settings: &Settings) -> Result<(), CliError> {
    let stream = StreamName::new(&args.stream)?;
    let why = settings.connect(&args.client).await?.why(stream.as_str()).await?;
    if !args.json {
        return print_lines(why.reasons.into_iter().map(|reason| reason.text));
    }
    let reasons = why.reasons.iter().map(|reason| {
        json!({
            "cause": reason.cause.as_str(),
            "waits": reason.waits,
            "since_seconds": reason.since.map(|since| since.as_secs_f64()),
            "text": reason.text,
        })
    });
    print_json(&json!({"stream": why.stream, "reasons": reasons.collect::<Vec<_>>()}))
}
