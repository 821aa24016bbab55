//! `bowstring top`: a live view of streams, rates, lag and waiting producers.

pub(super) mod screen;
mod view;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::config::{ClientSettings, Settings};
use super::error::CliError;
use super::quantity::Span;
use super::rates::Rates;
use super::signals::Signals;
use super::stats;
use crate::engine::StreamName;

/// Watch streams live: rates, buffers, lag, waiting producers. Keys: q quits, up and down scroll
#[derive(Debug, Args)]
#[command(after_help = "\
Where stdout is no terminal, it prints the same as `bowstring stats --interval`.

Examples:
  bowstring top
  bowstring top flights -i 500ms")]
pub(super) struct TopArgs {
    /// Name of the stream [default: all]
    stream: Option<String>,
    /// Time between two looks
    #[arg(long, short, value_name = "DURATION", default_value = "1s")]
    interval: Span,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: TopArgs, settings: &Settings, signals: &mut Signals) -> Result<(), CliError> {
    let stream = args.stream.as_deref().map(StreamName::new).transpose()?;
    let name = stream.as_ref().map(StreamName::as_str);
    let client = signals.interrupt(settings.connect(&args.client)).await?;
    let interval: Duration = args.interval.0;
    if io::stdout().is_terminal() && io::stdin().is_terminal() {
        // Asked once before the screen is taken over, so that a wrong name is an error and not a blank screen.
        client.stats(name).await?;
        let mut rates = Rates::default();
        let look = async || {
            let stats = client.stats(name).await?;
            let rates = rates.look(Instant::now(), &stats);
            Ok(view::lines(&stats, &rates))
        };
        return screen::run(interval, signals, look).await;
    }
    signals.interrupt(stats::repeat(&client, name, interval, false)).await
}
