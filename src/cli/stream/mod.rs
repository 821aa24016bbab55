//! `bowstring stream`: create, look at and end streams.

mod create;
mod describe;
mod list;

use clap::{Args, Subcommand};

use super::config::{ClientSettings, Settings};
use super::error::CliError;
use crate::engine::{Code, StreamName};

/// Create, list, describe, complete and delete streams
#[derive(Debug, Args)]
pub(super) struct StreamArgs {
    #[command(subcommand)]
    command: StreamCommand,
}

#[derive(Debug, Subcommand)]
enum StreamCommand {
    Create(create::CreateArgs),
    List(list::ListArgs),
    Describe(describe::DescribeArgs),
    Complete(CompleteArgs),
    Delete(DeleteArgs),
}

/// End a stream in good order: readers get what is there, then the end
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bowstring stream complete flights")]
struct CompleteArgs {
    /// Name of the stream
    stream: String,
    #[command(flatten)]
    client: ClientSettings,
}

/// Delete a stream with all that it holds
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bowstring stream delete flights\n  bowstring stream delete flights --if-exists")]
struct DeleteArgs {
    /// Name of the stream
    stream: String,
    /// Succeed where there is no such stream
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: StreamArgs, settings: &Settings) -> Result<(), CliError> {
    match args.command {
        StreamCommand::Create(args) => create::run(args, settings).await,
        StreamCommand::List(args) => list::run(args, settings).await,
        StreamCommand::Describe(args) => describe::run(args, settings).await,
        StreamCommand::Complete(args) => complete(args, settings).await,
        StreamCommand::Delete(args) => delete(args, settings).await,
    }
}

async fn complete(args: CompleteArgs, settings: &Settings) -> Result<(), CliError> {
    let stream = StreamName::new(&args.stream)?;
    settings.connect(&args.client).await?.complete_stream(stream.as_str()).await?;
    super::print_lines([format!("stream {stream} is complete")])
}

async fn delete(args: DeleteArgs, settings: &Settings) -> Result<(), CliError> {
    let stream = StreamName::new(&args.stream)?;
    match settings.connect(&args.client).await?.delete_stream(stream.as_str()).await {
        Ok(()) => super::print_lines([format!("stream {stream} is deleted")]),
        Err(error) if args.if_exists && error.code() == Code::StreamNotFound => {
            super::print_lines([format!("there is no stream {stream}")])
        }
        Err(error) => Err(error.into()),
    }
}
