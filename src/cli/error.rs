//! What a command fails with: `error [code]: text`, a hint, and an exit code that scripts can rely on.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::client;
use crate::engine::{Code, NameError, StreamName, SubscriptionName};
use crate::server::{StartError, TokensError};

/// Exit codes, as `bowstring --help` documents them.
pub(super) mod exit {
    pub(in crate::cli) const OK: u8 = 0;
    pub(in crate::cli) const FAILED: u8 = 1;
    pub(in crate::cli) const USAGE: u8 = 2;
    pub(in crate::cli) const NOT_FOUND: u8 = 3;
    pub(in crate::cli) const TIMEOUT: u8 = 4;
    pub(in crate::cli) const UNAVAILABLE: u8 = 5;
    /// 128 + SIGINT, as shells have it.
    pub(in crate::cli) const INTERRUPTED: u8 = 130;
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Tokens(#[from] TokensError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{text}")]
    Usage { text: String },
    #[error("the configuration cannot be used: {reason}")]
    Config { reason: String },
    #[error("{} does not exist", path.display())]
    FileNotFound { path: PathBuf },
    #[error("{name}: {reason}")]
    File { name: String, reason: io::Error },
    #[error("the format of {name} is not known; its name has no extension that says it")]
    FormatUnknown { name: String },
    #[error("{name} cannot be read as {format}: {reason}")]
    Malformed { name: String, format: &'static str, reason: String, hint: &'static str },
    #[error("{name} cannot be written as {format}: {reason}")]
    Unwritable { name: String, format: &'static str, reason: String, hint: &'static str },
    #[error("stream {stream} has no schema yet, and {format} needs one: nothing was ever appended to it")]
    NoSchema { stream: String, format: &'static str },
    #[error("stream {stream} has no subscription {subscription}")]
    SubscriptionNotFound { stream: StreamName, subscription: SubscriptionName },
    #[error("no batch came for {waited}")]
    NoBatch { waited: String },
    #[error("the acks of what is written were not confirmed within {waited}; what is not acked comes again")]
    AcksUnconfirmed { waited: String },
    #[error("the benchmark failed: {reason}")]
    Bench { reason: String },
    #[error("{problems} {} attention", if *problems == 1 { "thing needs" } else { "things need" })]
    NeedsAttention { problems: usize },
    #[error("interrupted")]
    Interrupted,
    /// The reader of our output has gone, for instance `head`: nobody is left to tell.
    #[error("the output was closed")]
    OutputClosed,
    #[error("{doing}: {reason}")]
    Io { doing: &'static str, reason: io::Error },
}

impl CliError {
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self::Usage { text: text.into() }
    }

    /// A file that could not be opened, read or written.
    pub(super) fn file(path: &Path, reason: io::Error) -> Self {
        match reason.kind() {
            io::ErrorKind::NotFound => Self::FileNotFound { path: path.to_path_buf() },
            _ => Self::File { name: path.display().to_string(), reason },
        }
    }

    /// Printing failed.
    pub(super) fn print(reason: io::Error) -> Self {
        match reason.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Io { doing: "writing to the terminal", reason },
        }
    }

    /// The stable code that is printed in brackets: a code of the coordinator, or one of the command line's own.
    fn code(&self) -> &'static str {
        match self {
            Self::Client(error) => error.code().as_str(),
            Self::Name(_) | Self::Usage { .. } => Code::InvalidArgument.as_str(),
            Self::Start(_) => "start_failed",
            Self::Tokens(_) => "token_file",
            Self::Config { .. } => "invalid_config",
            Self::FileNotFound { .. } => "file_not_found",
            Self::File { .. } | Self::Io { .. } | Self::OutputClosed => "file_error",
            Self::FormatUnknown { .. } => "format_unknown",
            Self::Malformed { .. } => "malformed_file",
            Self::Unwritable { .. } => "unwritable",
            Self::NoSchema { .. } => "no_schema",
            Self::SubscriptionNotFound { .. } => Code::SubscriptionNotFound.as_str(),
            Self::NoBatch { .. } | Self::AcksUnconfirmed { .. } => Code::Timeout.as_str(),
            Self::Bench { .. } => "bench_failed",
            Self::NeedsAttention { .. } => "needs_attention",
            Self::Interrupted => "interrupted",
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            // It says itself what to do.
            Self::Client(client::Error::Tls { .. }) => None,
            Self::Client(error) => hint_of(error.code()),
            Self::Malformed { hint, .. } | Self::Unwritable { hint, .. } => Some(hint).filter(|hint| !hint.is_empty()).copied(),
            Self::FormatUnknown { .. } => Some("say it with --format parquet, csv, json, arrow or arrow-stream"),
            Self::FileNotFound { .. } => Some("check the path; - reads standard input"),
            Self::Config { .. } => Some("`bowstring serve --help` lists the settings; a flag's name with _ for - is its name in the file"),
            Self::NoSchema { .. } => Some("append something first, or use --format json"),
            Self::SubscriptionNotFound { .. } => hint_of(Code::SubscriptionNotFound),
            Self::NoBatch { .. } => Some("`bowstring why STREAM` says what it waits for; --timeout says how long to wait"),
            Self::Name(_)
            | Self::Tokens(_)
            | Self::Start(_)
            | Self::Usage { .. }
            | Self::File { .. }
            | Self::Io { .. }
            | Self::OutputClosed
            | Self::AcksUnconfirmed { .. }
            | Self::Bench { .. }
            | Self::NeedsAttention { .. }
            | Self::Interrupted => None,
        }
    }

    /// What the process exits with.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) => exit_code_of(error.code()),
            Self::Name(_) | Self::Usage { .. } | Self::Config { .. } | Self::FormatUnknown { .. } => exit::USAGE,
            Self::FileNotFound { .. } | Self::SubscriptionNotFound { .. } => exit::NOT_FOUND,
            Self::NoBatch { .. } | Self::AcksUnconfirmed { .. } => exit::TIMEOUT,
            Self::Interrupted => exit::INTERRUPTED,
            Self::OutputClosed => exit::OK,
            Self::Start(StartError::Config(_) | StartError::Unprotected(_) | StartError::Tls(_)) => exit::USAGE,
            Self::Start(_)
            | Self::Tokens(_)
            | Self::File { .. }
            | Self::Io { .. }
            | Self::Malformed { .. }
            | Self::Unwritable { .. }
            | Self::Bench { .. }
            | Self::NeedsAttention { .. }
            | Self::NoSchema { .. } => exit::FAILED,
        }
    }

    /// Says on stderr what went wrong and what to do.
    pub(super) fn print_to_stderr(&self) {
        if matches!(self, Self::OutputClosed) {
            return;
        }
        let mut stderr = io::stderr().lock();
        let (code, text) = (self.code(), self.to_string());
        // The coordinator puts the code in its text too, for clients that see nothing but that.
        let text = text.strip_prefix(&format!("[{code}] ")).unwrap_or(&text);
        // Nobody is left to tell that stderr is closed.
        let _ = writeln!(stderr, "error [{code}]: {text}");
        if let Some(hint) = self.hint() {
            let _ = writeln!(stderr, "hint: {hint}");
        }
    }
}

fn exit_code_of(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::PartitionOutOfRange | Code::Unimplemented => exit::USAGE,
        Code::StreamNotFound | Code::SubscriptionNotFound => exit::NOT_FOUND,
        Code::Timeout => exit::TIMEOUT,
        Code::Unavailable | Code::ShuttingDown => exit::UNAVAILABLE,
        Code::Cancelled => exit::INTERRUPTED,
        Code::StreamExists
        | Code::StreamReplaced
        | Code::StreamCompleted
        | Code::StreamFailed
        | Code::SchemaMismatch
        | Code::MalformedMessage
        | Code::MessageTooLarge
        | Code::BatchTooLarge
        | Code::BufferFull
        | Code::SpoolFull
        | Code::Fenced
        | Code::EpochCommitted
        | Code::EpochNotOpen
        | Code::ReceiptUnknown
        | Code::OffsetGone
        | Code::OffsetAhead
        | Code::SubscriptionMoved
        | Code::LeaseLost
        | Code::SubscriptionEvicted
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::QueryFailed
        | Code::OrdinalGap
        | Code::AppenderNotReady
        | Code::ProducerLost
        | Code::TooMany
        | Code::Storage
        | Code::Internal => exit::FAILED,
    }
}

/// What to do on the command line; the coordinator's text says what happened.
fn hint_of(code: Code) -> Option<&'static str> {
    match code {
        Code::StreamNotFound => Some("`bowstring stream list` shows the streams there are"),
        Code::StreamExists => Some("--if-not-exists takes a stream of the same options as it is"),
        Code::StreamCompleted | Code::StreamFailed => Some("`bowstring stream delete` makes room for a new stream of that name"),
        Code::StreamReplaced => Some("run the command again to work with the new stream"),
        Code::PartitionOutOfRange | Code::SubscriptionNotFound | Code::SchemaMismatch => {
            Some("`bowstring stream describe` shows the stream's schema, partitions and subscriptions")
        }
        Code::BatchTooLarge | Code::MessageTooLarge => Some("smaller batches: a lower --batch-rows"),
        Code::BufferFull | Code::SpoolFull | Code::Timeout | Code::ProducerLost => {
            Some("`bowstring why STREAM` says who waits for whom, and `bowstring stats` what is held")
        }
        Code::Unavailable => Some("--url or BOWSTRING_URL say where the coordinator listens, --connect-timeout how long to try"),
        Code::ShuttingDown => Some("try again when the coordinator is back"),
        Code::OffsetGone => Some("the start earliest is the oldest batch that is kept"),
        Code::SubscriptionEvicted => Some("`bowstring subscription seek STREAM NAME earliest` takes it up again with what is kept"),
        Code::Unauthenticated => Some("--token-file or BOWSTRING_TOKEN say who you are; `bowstring token issue` makes a token"),
        Code::PermissionDenied => {
            Some("`bowstring token issue NAME --allow VERB:STREAM`, where the coordinator's tokens are, makes a token that may")
        }
        Code::QueryFailed => {
            Some("`bowstring subscription seek` moves the subscription past the batch; TRY_CAST and NULLIF in the query give nulls instead")
        }
        Code::Internal => Some("this is a defect: please report it with the coordinator's log and what `bowstring debug bundle` writes"),
        Code::InvalidArgument
        | Code::MalformedMessage
        | Code::Fenced
        | Code::EpochCommitted
        | Code::EpochNotOpen
        | Code::ReceiptUnknown
        | Code::OffsetAhead
        | Code::SubscriptionMoved
        | Code::LeaseLost
        | Code::OrdinalGap
        | Code::AppenderNotReady
        | Code::TooMany
        | Code::Cancelled
        | Code::Storage
        | Code::Unimplemented => None,
    }
}
