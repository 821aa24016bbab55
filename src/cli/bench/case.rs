//! One thing to measure, and all the combinations that the command line asks for.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

use super::BenchArgs;
use super::load::Columns;
use crate::cli::compression::CompressionArg;
use crate::cli::error::CliError;
use crate::cli::quantity::{Size, bytes};
use crate::client::MESSAGE_BYTES_MAX;

/// What latency is measured with: what one batch costs shows best without its bytes.
const LATENCY_BATCH_BYTES: Size = Size(1 << 10);
const BATCH_BYTES_DEFAULT: Size = Size(4 << 20);
const RATE_DEFAULT: Rate = Rate::PerSecond(1000.0);
const FAN_OUT_DEFAULT: [u32; 3] = [1, 4, 16];

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Work {
    /// Append alone: a stream that drops its oldest batches
    Put,
    /// Read alone: what was appended before
    Get,
    /// Both at once, from a producer to its consumers
    Relay,
    /// Relay to 1, 4 and 16 consumers, each with its own subscription
    FanOut,
    /// Relay at a rate: how long from append to delivery
    Latency,
}

/// How fast a producer appends when latency is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rate {
    PerSecond(f64),
    /// Half of what a relay of the same shape reaches in the same round.
    Half,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = || text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
        match text {
            "half" => Ok(Self::Half),
            _ => number()
                .map(Self::PerSecond)
                .ok_or_else(|| format!("{text:?} is no rate; write batches per second, or half (of the maximum)")),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => write!(f, "{rate}/s"),
            Self::Half => f.write_str("half of the maximum"),
        }
    }
}

/// One thing to measure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    pub(super) work: Work,
    pub(super) batch_bytes: Size,
    pub(super) columns: Columns,
    pub(super) compression: CompressionArg,
    pub(super) partitions: u32,
    pub(super) streams: u32,
    /// None for [`Work::Put`].
    pub(super) consumers: u32,
    /// Only for [`Work::Latency`].
    pub(super) rate: Option<Rate>,
}

impl Work {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Relay => "relay",
            Self::FanOut => "fan-out",
            Self::Latency => "latency",
        }
    }
}

impl Case {
    /// The same shape as a relay, which says what the most is.
    pub(super) fn at_full_speed(&self) -> Self {
        Self { work: Work::Relay, rate: None, ..self.clone() }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.work.name(), bytes(self.batch_bytes.0), self.columns.name())?;
        if self.compression != CompressionArg::None {
            write!(f, " {}", self.compression.name())?;
        }
        for (count, noun) in [(self.partitions, "partitions"), (self.streams, "streams")] {
            if count != 1 {
                write!(f, ", {count} {noun}")?;
            }
        }
        if self.consumers > 1 || self.work == Work::FanOut {
            write!(f, ", {} consumer{}", self.consumers, if self.consumers == 1 { "" } else { "s" })?;
        }
        self.rate.map_or(Ok(()), |rate| write!(f, ", {rate}"))
    }
}

/// Every combination of what was asked for, in its order.
pub(super) fn cases(args: &BenchArgs) -> Result<Vec<Case>, CliError> {
    let latency = args.work.contains(&Work::Latency);
    if !args.rate.is_empty() && !latency {
        return Err(CliError::usage("--rate is for latency: the other kinds of work go as fast as they can"));
    }
    if let Some(size) = args.batch_bytes.iter().find(|size| !(1..=MESSAGE_BYTES_MAX / 2).contains(&size.0)) {
        return Err(CliError::usage(format!("--batch-bytes is {size}, but it must be from 1 byte to {}", Size(MESSAGE_BYTES_MAX / 2))));
    }
    let mut cases = Vec::new();
    for work in args.work.iter().copied() {
        let sizes = or(&args.batch_bytes, &[if work == Work::Latency { LATENCY_BATCH_BYTES } else { BATCH_BYTES_DEFAULT }]);
        let consumers = match work {
            Work::Put => vec![0],
            Work::FanOut => or(&args.consumers, &FAN_OUT_DEFAULT),
            Work::Get | Work::Relay | Work::Latency => or(&args.consumers, &[1]),
        };
        let rates = if work == Work::Latency { or(&args.rate, &[RATE_DEFAULT]).into_iter().map(Some).collect() } else { vec![None] };
        for batch_bytes in sizes {
            for (columns, compression) in pairs(&args.columns, &args.compression) {
                for (partitions, streams) in pairs(&args.partitions, &args.streams) {
                    for (consumers, rate) in pairs(&consumers, &rates) {
                        cases.push(Case { work, batch_bytes, columns, compression, partitions, streams, consumers, rate });
                    }
                }
            }
        }
    }
    Ok(cases)
}

fn or<T: Clone>(asked: &[T], otherwise: &[T]) -> Vec<T> {
    if asked.is_empty() { otherwise.to_vec() } else { asked.to_vec() }
}

fn pairs<A: Copy, B: Copy>(these: &[A], those: &[B]) -> Vec<(A, B)> {
    these.iter().flat_map(|this| those.iter().map(|that| (*this, *that))).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn names(line: &str) -> Vec<String> {
        let line = Line::try_parse_from(std::iter::once("bench").chain(line.split_whitespace())).unwrap();
        cases(&line.bench).unwrap().iter().map(Case::to_string).collect()
    }

    #[test]
    fn lists_give_every_combination_and_each_kind_of_work_has_its_defaults() {
        assert_eq!(names(""), ["relay 4.0 MiB fixed"]);
        assert_eq!(names("put --batch-bytes 1KiB,1MiB --consumers 3"), ["put 1.0 KiB fixed", "put 1.0 MiB fixed"]);
        let fan_out = ["fan-out 4.0 MiB fixed, 1 consumer", "fan-out 4.0 MiB fixed, 4 consumers", "fan-out 4.0 MiB fixed, 16 consumers"];
        assert_eq!(names("fan-out"), fan_out);
        let latency = ["latency 1.0 KiB fixed, 100/s", "latency 1.0 KiB fixed, half of the maximum"];
        assert_eq!(names("latency --rate 100,half"), latency);
        assert_eq!(names("relay --compression none,auto"), ["relay 4.0 MiB fixed", "relay 4.0 MiB fixed auto"]);
        assert_eq!(names("get relay --columns nested --partitions 2,3 --streams 4").len(), 4);
    }
}
