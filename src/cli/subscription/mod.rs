//! `bowstring subscription`: create and move subscriptions.

mod create;
mod seek;

use clap::{Args, Subcommand};

use super::config::Settings;
use super::error::CliError;

/// Create and move subscriptions
#[derive(Debug, Args)]
pub(super) struct SubscriptionArgs {
    #[command(subcommand)]
    command: SubscriptionCommand,
}

#[derive(Debug, Subcommand)]
enum SubscriptionCommand {
    Create(create::CreateArgs),
    Seek(seek::SeekArgs),
}

pub(super) async fn run(args: SubscriptionArgs, settings: &Settings) -> Result<(), CliError> {
    match args.command {
        SubscriptionCommand::Create(args) => create::run(args, settings).await,
        SubscriptionCommand::Seek(args) => seek::run(args, settings).await,
    }
}
