//! `bowstring subscription delete`.

use clap::Args;

use crate::cli::config::{ClientSettings, Settings};
use crate::cli::error::CliError;
use crate::cli::print_lines;
use crate::engine::{Code, StreamName, SubscriptionName};

/// Delete a subscription; what only it held back is dropped
#[derive(Debug, Args)]
#[command(after_help = "\
Of the last subscription of a stream, what it had not acked stays for the next one.

Examples:
  bowstring subscription delete flights trainer
  bowstring subscription delete flights trainer --if-exists")]
pub(super) struct DeleteArgs {
    /// Name of the stream
    stream: String,
    /// Name of the subscription
    name: String,
    /// Succeed where there is no such subscription
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: DeleteArgs, settings: &Settings) -> Result<(), CliError> {
    let (stream, name) = (StreamName::new(&args.stream)?, SubscriptionName::new(&args.name)?);
    match settings.connect(&args.client).await?.unsubscribe(stream.as_str(), name.as_str()).await {
        Ok(()) => print_lines([format!("subscription {name} of stream {stream} is deleted")]),
        Err(error) if args.if_exists && error.code() == Code::SubscriptionNotFound => {
            print_lines([format!("stream {stream} has no subscription {name}")])
        }
        Err(error) => Err(error.into()),
    }
}
