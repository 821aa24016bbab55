//! `bowstring subscription`: create, move, look at and end subscriptions.

mod create;
mod delete;
mod describe;
mod list;
mod seek;

use clap::{Args, Subcommand};

use super::config::Settings;
use super::error::CliError;

/// Create, list, describe, move and delete subscriptions
#[derive(Debug, Args)]
pub(super) struct SubscriptionArgs {
    #[command(subcommand)]
    command: SubscriptionCommand,
}

#[derive(Debug, Subcommand)]
enum SubscriptionCommand {
    Create(create::CreateArgs),
    Seek(seek::SeekArgs),
    List(list::ListArgs),
    Describe(describe::DescribeArgs),
    Delete(delete::DeleteArgs),
}

pub(super) async fn run(args: SubscriptionArgs, settings: &Settings) -> Result<(), CliError> {
    match args.command {
        SubscriptionCommand::Create(args) => create::run(args, settings).await,
        SubscriptionCommand::Seek(args) => seek::run(args, settings).await,
        SubscriptionCommand::List(args) => list::run(args, settings).await,
        SubscriptionCommand::Describe(args) => describe::run(args, settings).await,
        SubscriptionCommand::Delete(args) => delete::run(args, settings).await,
    }
}
