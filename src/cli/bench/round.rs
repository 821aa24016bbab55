//! One case once: streams are made, the ends start, connect and go; what they report becomes figures.

use std::ffi::OsString;

use serde_json::{Value, json};

use super::case::{Case, Rate, Work};
use super::child::Child;
use super::end::stream_names;
use super::load::Load;
use super::meter::{Report, merged};
use super::target::{Target, Usage};
use crate::cli::error::CliError;
use crate::cli::quantity::float;
use crate::engine::Code;
use crate::wire::proto::{CreateStreamRequest, FullPolicy, StreamOptions};

/// What is there to be read when reading alone is measured: more would only take longer to append.
const GET_BYTES_MAX: u64 = 512 << 20;
const GET_BATCHES_MAX: u64 = 65_536;
/// What is stored before the time runs when appending alone is measured: what a stream holds by default, then it drops its
/// oldest. Up to as many bytes as above.
const FILL_BATCHES: u64 = 64;

/// How much a round does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Amount {
    Seconds(f64),
    Bytes(u64),
}

/// What starts the ends, and for what.
pub(super) struct Rounds {
    /// This command, as it was called.
    pub(super) program: OsString,
    pub(super) target: Target,
    pub(super) amount: Amount,
    /// Of the streams' names.
    pub(super) prefix: String,
}

/// What a round has shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    pub(super) seconds: f64,
    /// Delivered to all consumers together; without any, appended.
    pub(super) batches: u64,
    pub(super) bytes: u64,
    /// CPU seconds per GB that the process carried; the coordinator's and the consumers' per GB delivered.
    pub(super) producer_cpu: Option<f64>,
    pub(super) coordinator_cpu: Option<f64>,
    pub(super) consumers_cpu: Option<f64>,
    pub(super) coordinator_resident_bytes: Option<f64>,
    /// Microseconds from append to delivery: p50, p99, p99.9, the longest.
    pub(super) latency: Option<[f64; 4]>,
}

impl Rounds {
    /// Runs a case once; the streams are gone afterwards.
    pub(super) async fn round(&self, case: &Case) -> Result<Figures, CliError> {
        let rate = match case.rate {
            Some(Rate::Half) => Some(Box::pin(self.round(&case.at_full_speed())).await?.batches_per_second() / 2.0),
            Some(Rate::PerSecond(rate)) => Some(rate),
            None => None,
        };
        let load = Load::new(case.columns, case.batch_bytes.0)?;
        self.create(case, &load).await?;
        let figures = self.measure(case, &load, rate).await;
        // A round that failed must not leave its data with a coordinator that goes on; its error is the one that counts.
        let deleted = self.delete(case.streams).await;
        figures.and_then(|figures| deleted.map(|()| figures))
    }

    async fn measure(&self, case: &Case, load: &Load, rate: Option<f64>) -> Result<Figures, CliError> {
        let mut ends = Vec::new();
        if case.work == Work::Get {
            let mut filling = self.start("append", "the producer", case, &["--batches".to_owned(), prepared(case, load).to_string()])?;
            filling.ready().await?;
            filling.go().await?;
            filling.report().await?;
        }
        for number in 0..case.consumers {
            let mut flags = self.amount(case, load);
            if case.work != Work::Get {
                flags.extend(["--subscription".to_owned(), format!("bench-{number}")]);
            }
            ends.push(self.start("read", &format!("consumer {number}"), case, &flags)?);
        }
        if case.work != Work::Get {
            let mut flags = self.amount(case, load);
            if case.work == Work::Put {
                flags.extend(["--fill".to_owned(), filled(load).to_string()]);
            }
            flags.extend(rate.iter().flat_map(|rate| ["--rate".to_owned(), rate.to_string()]));
            ends.push(self.start("append", "the producer", case, &flags)?);
        }
        let (reports, usage) = self.run(ends).await?;
        figures(case, &reports, usage)
    }

    /// All ends at once, from the first word to go until the last has reported.
    async fn run(&self, mut ends: Vec<Child>) -> Result<(Vec<Report>, Option<(Usage, Usage)>), CliError> {
        for end in &mut ends {
            end.ready().await?;
        }
        let before = self.target.usage().await?;
        for end in &mut ends {
            end.go().await?;
        }
        // All are listened to at once: the first that fails ends the round, though the others still wait.
        let reports = futures::future::try_join_all(ends.into_iter().map(Child::report)).await?;
        let after = self.target.usage().await?;
        Ok((reports, before.zip(after)))
    }

    fn start(&self, role: &str, name: &str, case: &Case, flags: &[String]) -> Result<Child, CliError> {
        let mut args: Vec<String> = ["bench-end", role, "--url", &self.target.url, "--stream", &self.prefix].map(str::to_owned).into();
        args.extend(["--streams".to_owned(), case.streams.to_string(), "--columns".to_owned(), case.columns.name().to_owned()]);
        args.extend(["--compression".to_owned(), case.compression.name().to_owned()]);
        args.extend(["--batch-bytes".to_owned(), case.batch_bytes.0.to_string()]);
        args.extend_from_slice(flags);
        Child::start(&self.program, name, &args)
    }

    /// How much each end does.
    fn amount(&self, case: &Case, load: &Load) -> Vec<String> {
        match self.amount {
            Amount::Seconds(seconds) => vec!["--seconds".to_owned(), seconds.to_string()],
            Amount::Bytes(bytes) => {
                let batches = bytes.div_ceil(load.bytes).div_ceil(case.streams.into()).max(1);
                vec!["--batches".to_owned(), batches.to_string()]
            }
        }
    }

    async fn create(&self, case: &Case, load: &Load) -> Result<(), CliError> {
        let mut options = StreamOptions { partitions: Some(case.partitions), ..StreamOptions::default() };
        match case.work {
            Work::Put => {
                options.set_full_policy(FullPolicy::DropOldest);
                // What is stored before is as much as there can be: new memory would be what is timed.
                options.max_buffered_batches = Some(filled(load));
            }
            Work::Get => {
                options.max_buffered_batches = Some(prepared(case, load));
                // Headers and padding come to the batches' own bytes.
                options.max_buffered_bytes = Some((prepared(case, load) * (load.bytes * 2 + 4096)).max(2 << 30));
            }
            // The coordinator's defaults: what users get.
            Work::Relay | Work::FanOut | Work::Latency => {}
        }
        for stream in stream_names(&self.prefix, case.streams) {
            let request = CreateStreamRequest { stream, options: Some(options), ..CreateStreamRequest::default() };
            self.target.client.create_stream(request).await?;
        }
        Ok(())
    }

    /// Deletes so many streams, where they are there.
    pub(super) async fn delete(&self, streams: u32) -> Result<(), CliError> {
        for stream in stream_names(&self.prefix, streams) {
            match self.target.client.delete_stream(&stream).await {
                Err(error) if error.code() != Code::StreamNotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Figures {
    pub(super) fn mb_per_second(&self) -> f64 {
        float(self.bytes) / 1e6 / self.seconds
    }

    pub(super) fn batches_per_second(&self) -> f64 {
        float(self.batches) / self.seconds
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "seconds": self.seconds,
            "batches": self.batches,
            "bytes": self.bytes,
            "mb_per_s": self.mb_per_second(),
            "batches_per_s": self.batches_per_second(),
            "cpu_s_per_gb": {"producer": self.producer_cpu, "coordinator": self.coordinator_cpu, "consumers": self.consumers_cpu},
            "coordinator_resident_bytes": self.coordinator_resident_bytes,
            "latency_us": self.latency.map(|[p50, p99, p999, max]| json!({"p50": p50, "p99": p99, "p99.9": p999, "max": max})),
        })
    }
}

/// Batches of a stream that are there when appending alone begins, and all the time.
fn filled(load: &Load) -> u64 {
    FILL_BATCHES.min(GET_BYTES_MAX / load.bytes).max(1)
}

/// Batches of each stream that are there before reading alone begins.
fn prepared(case: &Case, load: &Load) -> u64 {
    (GET_BYTES_MAX / load.bytes).min(GET_BATCHES_MAX).div_ceil(case.streams.into()).max(1)
}

/// The producer's report, where there is one, is the last.
fn figures(case: &Case, reports: &[Report], usage: Option<(Usage, Usage)>) -> Result<Figures, CliError> {
    let consumers = usize::try_from(case.consumers).unwrap_or(usize::MAX);
    let (reading, appending) = reports.split_at(consumers.min(reports.len()));
    if let Some(producer) = appending.first()
        && let Some(short) = reading.iter().find(|report| report.batches != producer.batches)
    {
        let reason = format!("{} batches were appended and a consumer got {}", producer.batches, short.batches);
        return Err(CliError::Bench { reason });
    }
    let carrying = if reading.is_empty() { appending } else { reading };
    let bytes: u64 = carrying.iter().map(|report| report.bytes).sum();
    let begun_ns = reports.iter().map(|report| report.begun_ns).min().unwrap_or_default();
    let ended_ns = carrying.iter().map(|report| report.ended_ns).max().unwrap_or_default();
    let cpu = |reports: &[Report]| reports.iter().map(|report| report.cpu_seconds).sum::<f64>();
    let per_gb = |seconds: f64, bytes: u64| seconds / (float(bytes.max(1)) / 1e9);
    let latency = merged(reading);
    let quantile = |quantile| float(latency.value_at_quantile(quantile)) / 1e3;
    Ok(Figures {
        seconds: (float(ended_ns.saturating_sub(begun_ns)) / 1e9).max(1e-9),
        batches: carrying.iter().map(|report| report.batches).sum(),
        bytes,
        producer_cpu: appending.first().map(|report| per_gb(report.cpu_seconds, report.bytes)),
        coordinator_cpu: usage.map(|(before, after)| per_gb(after.cpu_seconds - before.cpu_seconds, bytes)),
        consumers_cpu: (!reading.is_empty()).then(|| per_gb(cpu(reading), bytes)),
        coordinator_resident_bytes: usage.map(|(_, after)| after.resident_bytes),
        latency: (!latency.is_empty()).then(|| [quantile(0.5), quantile(0.99), quantile(0.999), quantile(1.0)]),
    })
}
