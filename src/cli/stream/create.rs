//! `bowstring stream create`.

use clap::{Args, ValueEnum};

use crate::cli::config::{ClientSettings, Settings};
use crate::cli::error::CliError;
use crate::cli::quantity::{Size, Span, partitions};
use crate::cli::{print_lines, report};
use crate::engine::StreamName;
use crate::wire::proto::{CreateStreamRequest, FullPolicy, SchemaPolicy, StreamOptions, Visibility};

/// Create a stream; its schema comes with the first batches
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bowstring stream create flights --partitions 4
  bowstring stream create clicks --max-buffered-batches 256 --max-buffered-bytes 512MiB --full-policy reject")]
pub(super) struct CreateArgs {
    /// Name of the stream
    stream: String,
    /// Number of partitions, 1 to 4096 [default: the coordinator's]
    #[arg(long, short, value_name = "COUNT")]
    partitions: Option<u32>,
    /// Most batches in memory [default: the coordinator's]
    #[arg(long, value_name = "COUNT")]
    max_buffered_batches: Option<u64>,
    /// Most bytes in memory [default: the coordinator's]
    #[arg(long, value_name = "SIZE")]
    max_buffered_bytes: Option<Size>,
    /// Most bytes on disk, for epochs larger than memory takes [default: the coordinator's]
    #[arg(long, value_name = "SIZE")]
    max_spool_bytes: Option<Size>,
    /// Most bytes of its log, where the coordinator has a data directory [default: the coordinator's]
    #[arg(long, value_name = "SIZE")]
    max_disk_bytes: Option<Size>,
    /// How long batches stay that every subscription has acked, to be read again, e.g. 1h [default: 0]
    #[arg(long, value_name = "DURATION")]
    retain: Option<Span>,
    /// The newest so many bytes stay, acked or not [default: 0]
    #[arg(long, value_name = "SIZE")]
    retain_bytes: Option<Size>,
    /// When batches of an epoch can be read
    #[arg(long, value_name = "WHEN", default_value = "committed")]
    visibility: VisibilityArg,
    /// What happens to an append that finds no room
    #[arg(long, value_name = "POLICY", default_value = "wait")]
    full_policy: FullPolicyArg,
    /// How long an append waits for room before it is refused with buffer_full, e.g. 2s; 0: as long as its client does [default: the coordinator's]
    #[arg(long, value_name = "DURATION")]
    max_wait: Option<Span>,
    /// Once it was full, let those that wait in when it has fallen to so many percent of its limits [default: the coordinator's]
    #[arg(long, value_name = "PERCENT")]
    resume_percent: Option<u32>,
    /// What a producer may bring that has another schema
    #[arg(long, value_name = "POLICY", default_value = "strict")]
    schema_policy: SchemaPolicyArg,
    /// Succeed where the stream exists with the same options
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    client: ClientSettings,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VisibilityArg {
    /// When the epoch commits: all of it, or nothing
    Committed,
    /// As they arrive
    Immediate,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FullPolicyArg {
    /// The producer waits
    Wait,
    /// It is refused with buffer_full
    Reject,
    /// The oldest batches are dropped, acked or not
    DropOldest,
    /// It goes to the spool, and waits once that is full
    Spill,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaPolicyArg {
    /// Nothing
    Strict,
    /// New columns that may be null
    Additive,
    /// That, and wider types
    Widening,
}

pub(super) async fn run(args: CreateArgs, settings: &Settings) -> Result<(), CliError> {
    let stream = StreamName::new(&args.stream)?;
    let options = StreamOptions {
        partitions: args.partitions,
        max_buffered_batches: args.max_buffered_batches,
        max_buffered_bytes: args.max_buffered_bytes.map(|size| size.0),
        max_spool_bytes: args.max_spool_bytes.map(|size| size.0),
        max_disk_bytes: args.max_disk_bytes.map(|size| size.0),
        visibility: args.visibility.proto().into(),
        full_policy: args.full_policy.proto().into(),
        retain_ms: args.retain.map(|time| u64::try_from(time.0.as_millis()).unwrap_or(u64::MAX)),
        retain_bytes: args.retain_bytes.map(|size| size.0),
        max_wait_ms: args.max_wait.map(|time| u64::try_from(time.0.as_millis()).unwrap_or(u64::MAX)),
        resume_percent: args.resume_percent,
        schema_policy: args.schema_policy.proto().into(),
    };
    let request = CreateStreamRequest {
        stream: stream.to_string(),
        options: Some(options),
        if_not_exists: args.if_not_exists,
        ..CreateStreamRequest::default()
    };
    let created = settings.connect(&args.client).await?.create_stream(request).await?;
    let options = created.options.unwrap_or_default();
    print_lines([format!("stream {stream}: {}, {}", partitions(options.partitions()), report::limits(&options))])
}

impl VisibilityArg {
    fn proto(self) -> Visibility {
        match self {
            Self::Committed => Visibility::Committed,
            Self::Immediate => Visibility::Immediate,
        }
    }
}

impl SchemaPolicyArg {
    fn proto(self) -> SchemaPolicy {
        match self {
            Self::Strict => SchemaPolicy::Strict,
            Self::Additive => SchemaPolicy::Additive,
            Self::Widening => SchemaPolicy::Widening,
        }
    }
}

impl FullPolicyArg {
    fn proto(self) -> FullPolicy {
        match self {
            Self::Wait => FullPolicy::Wait,
            Self::Reject => FullPolicy::Reject,
            Self::DropOldest => FullPolicy::DropOldest,
            Self::Spill => FullPolicy::Spill,
        }
    }
}
