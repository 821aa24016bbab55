//! The `bowstring` command. One file per command; [`run`] is all of it, so that the Python wheel's script runs the same
//! command in its own process.

mod auth;
mod bench;
mod check;
mod compression;
mod config;
mod debug;
mod error;
mod format;
#[doc(hidden)]
pub mod fuzzing;
mod get;
mod input;
mod lag;
mod log;
mod output;
mod overflow;
mod peek;
mod progress;
mod put;
mod quantity;
mod rates;
mod report;
mod serve;
mod shown;
mod signals;
mod stats;
mod stream;
mod subscription;
mod table;
mod token;
mod top;
mod why;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use config::{GlobalArgs, Settings};
use error::{CliError, exit};
use signals::Signals;

use crate::server::BLOCKING_THREAD_STAYS;

/// A log has a file open for each of its segments, and a thousand streams are more connections than many shells allow: takes all that
/// this process may have.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the limit is what it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The bridge between Spark Structured Streaming and everything that is not Spark.
#[derive(Debug, Parser)]
#[command(name = "bowstring", version, max_term_width = 120, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::ServeArgs>),
    Stream(stream::StreamArgs),
    Subscription(subscription::SubscriptionArgs),
    Put(put::PutArgs),
    Get(get::GetArgs),
    Peek(peek::PeekArgs),
    Why(why::WhyArgs),
    Lag(lag::LagArgs),
    Stats(stats::StatsArgs),
    Check(check::CheckArgs),
    Token(token::TokenArgs),
    Config(shown::ConfigArgs),
    Debug(debug::DebugArgs),
    Top(top::TopArgs),
    Bench(bench::BenchArgs),
    #[command(hide = true)]
    BenchEnd(bench::EndArgs),
}

const AFTER_HELP: &str = "\
Examples:
  bowstring serve                                   run a coordinator on this machine
  bowstring put flights flights.parquet             append a file to the stream \"flights\"
  bowstring get flights                             look at it
  bowstring get flights --follow -o flights.csv     write what comes to a file until the stream ends
  bowstring peek flights                            its first rows; moves nothing
  bowstring why flights                             who waits for whom, and since when
  bowstring lag --watch                             what subscriptions have not acked
  bowstring config show                             the settings that count, and where they come from
  bowstring check                                   whether anything needs attention, as an exit code
  bowstring debug bundle                            what a report of a defect needs
  bowstring top                                     watch rates, lag and waiting producers
  bowstring bench put get relay                     measure what this machine carries

Settings come from flags, then BOWSTRING_* variables, then the TOML file of --config, then defaults.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 stream, subscription or file not found,
4 timed out, 5 coordinator not reachable, 130 interrupted.";

/// Runs the command that `args` (with the program's name first) say, and gives its exit code. Prints results to stdout,
/// everything else to stderr; starts a runtime of its own and, if none is there yet, the log.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(exit_code(args))
}

/// As [`run`], with the exit code as a number: 0 done, 1 failed, 2 wrong usage or configuration, 3 not found, 4 timed
/// out, 5 coordinator not reachable, 130 interrupted.
pub fn exit_code(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    // As the shell found it, so that commands that start themselves find it too.
    let program = args.first().cloned().unwrap_or_default();
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" for stdout; nobody is left to tell if that is closed.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::OK };
        }
    };
    match start(cli, program) {
        Ok(()) => exit::OK,
        Err(error) => {
            error.print_to_stderr();
            error.exit_code()
        }
    }
}

fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(args)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    match (&mut cli.command, matches.subcommand()) {
        (Command::Serve(serve), Some((_, matches))) => serve.note_sources(matches),
        (Command::Config(config), Some((_, matches))) => config.note_sources(matches),
        _ => {}
    }
    Ok(cli)
}

fn start(cli: Cli, program: OsString) -> Result<(), CliError> {
    let settings = Settings::read(cli.global.config.as_deref())?;
    let level = if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" };
    log::start(&settings.log(&cli.global.log)?, level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_keep_alive(BLOCKING_THREAD_STAYS).enable_all().build();
    let runtime = runtime.map_err(|reason| CliError::Io { doing: "starting the runtime", reason })?;
    let result = runtime.block_on(dispatch(cli.command, &settings, &cli.global, program));
    // A thread may still be in a read from stdin, which nothing ends.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: Command, settings: &Settings, global: &GlobalArgs, program: OsString) -> Result<(), CliError> {
    let mut signals = Signals::listen()?;
    match command {
        Command::Serve(args) => serve::run(&args, settings, &mut signals).await,
        Command::Stream(args) => signals.interrupt(stream::run(args, settings)).await,
        Command::Put(args) => put::run(args, settings, &mut signals).await,
        Command::Get(args) => get::run(args, settings, &mut signals).await,
        Command::Subscription(args) => signals.interrupt(subscription::run(args, settings)).await,
        Command::Peek(args) => signals.interrupt(peek::run(args, settings)).await,
        Command::Why(args) => signals.interrupt(why::run(args, settings)).await,
        Command::Lag(args) => lag::run(args, settings, &mut signals).await,
        Command::Token(args) => token::run(args, settings),
        Command::Config(args) => shown::run(args, settings, global).await,
        Command::Debug(args) => signals.interrupt(debug::run(args, settings, global)).await,
        Command::Stats(args) => signals.interrupt(stats::run(args, settings)).await,
        Command::Check(args) => signals.interrupt(check::run(args, settings)).await,
        Command::Top(args) => top::run(args, settings, &mut signals).await,
        Command::Bench(args) => bench::run(args, program, &mut signals).await,
        Command::BenchEnd(args) => signals.interrupt(bench::run_end(args)).await,
    }
}

/// Prints results to stdout.
fn print_lines(lines: impl IntoIterator<Item = String>) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    lines.into_iter().try_for_each(|line| writeln!(stdout, "{line}")).and_then(|()| stdout.flush()).map_err(CliError::print)
}

/// Prints one line of JSON to stdout.
fn print_json(value: &serde_json::Value) -> Result<(), CliError> {
    print_lines([value.to_string()])
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_holds_together() {
        super::Cli::command().debug_assert();
    }
}
