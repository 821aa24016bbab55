//! `bowstring subscription`: look at subscriptions and end them.

mod delete;
mod describe;
mod list;

use clap::{Args, Subcommand};

use super::config::Settings;
use super::error::CliError;

/// List, describe and delete subscriptions
#[derive(Debug, Args)]
pub(super) struct SubscriptionArgs {
    #[command(subcommand)]
    command: SubscriptionCommand,
}

#[derive(Debug, Subcommand)]
enum SubscriptionCommand {
    List(list::ListArgs),
    Describe(describe::DescribeArgs),
    Delete(delete::DeleteArgs),
}

pub(super) async fn run(args: SubscriptionArgs, settings: &Settings) -> Result<(), CliError> {
    match args.command {
        SubscriptionCommand::List(args) => list::run(args, settings).await,
        SubscriptionCommand::Describe(args) => describe::run(args, settings).await,
        SubscriptionCommand::Delete(args) => delete::run(args, settings).await,
    }
}
