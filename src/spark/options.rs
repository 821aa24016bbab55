//! Options of `format("bowstring")`: names, defaults and checks. Spark hands all values over as text.

mod given;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use self::given::Given;
use super::routing::Routing;
use crate::client::{Compression, Error, TlsOptions, TraceContext};
use crate::engine::{Offset, OnOverflow, PartitionId};

/// How long to look for the coordinator, unless `connectTimeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a batch costs is paid 200 times per second and task at most.
const REAL_TIME_LINGER: Duration = Duration::from_millis(5);

/// Options of a stream that does not exist yet; none takes the coordinator's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamLimits {
    /// How many partitions it has.
    pub partitions: Option<u32>,
    /// Most batches in memory.
    pub max_buffered_batches: Option<u64>,
    /// Most bytes in memory.
    pub max_buffered_bytes: Option<u64>,
    /// Most bytes on disk, of what does not fit in memory.
    pub max_spool_bytes: Option<u64>,
}

/// Where the coordinator and the stream are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The coordinator's URL.
    pub url: String,
    /// The stream's name.
    pub stream: String,
    /// How long to look for the coordinator.
    pub connect_timeout: Duration,
    /// Whether data goes by the Unix socket of a coordinator on the same host.
    pub local_socket: bool,
    /// How TLS is spoken, with a URL `grpc+tls://host:port`: files on each machine that connects.
    pub tls: TlsOptions,
    /// The file that has the token, on each machine that connects; none takes the environment's.
    pub token_file: Option<PathBuf>,
}

/// What `df.writeStream.format("bowstring")` and `df.write.format("bowstring")` take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkOptions {
    /// Where to.
    pub place: Place,
    /// Of a stream that is to be made.
    pub limits: StreamLimits,
    /// Which rows go to which partition.
    pub routing: Routing,
    /// How long an append may wait for room; none waits as long as it takes.
    pub append_timeout: Option<Duration>,
    /// Of the batches, on their way and in the coordinator.
    pub compression: Compression,
    /// Who writes, if it is not Spark's streaming query: for batch writes that may be repeated.
    pub producer: Option<String>,
    /// Its run.
    pub run: Option<String>,
    /// The epoch of a batch write.
    pub epoch: Option<u64>,
    /// What a batch write's driver works at: the epoch's trace links to it.
    pub context: Option<TraceContext>,
    /// Whether rows are appended as they come, at least once, and not as epochs; none leaves it to the query's trigger.
    pub real_time: Option<bool>,
    /// Then at most one batch goes out in this time, and no row waits for longer.
    pub real_time_linger: Duration,
}

/// Where a read begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// At the oldest batch that is kept.
    Earliest,
    /// After the newest visible batch.
    Latest,
    /// At these offsets.
    At(BTreeMap<PartitionId, Offset>),
}

/// What `spark.readStream.format("bowstring")` and `spark.read.format("bowstring")` take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOptions {
    /// Where from.
    pub place: Place,
    /// A cursor to share or resume; none gives each query one of its own, kept in its checkpoint.
    pub subscription: Option<String>,
    /// Where a query without a checkpoint begins, or a batch read.
    pub starting: Bound,
    /// Where a batch read ends.
    pub ending: Bound,
    /// What a new subscription does that holds room which an append needs: [`OnOverflow::Hold`] or [`OnOverflow::Evict`].
    pub on_overflow: OnOverflow,
    /// Most batches of a micro-batch.
    pub max_batches: Option<u64>,
    /// Most bytes of a micro-batch, estimated.
    pub max_bytes: Option<u64>,
    /// Whether the query fails when the producer is lost and all of its data has been read.
    pub fail_on_producer_lost: bool,
    /// Whether the stream is completed when the query ends, so that its producer does not wait for a reader in vain.
    pub complete_on_stop: bool,
}

/// Names that a sink knows.
pub const SINK_NAMES: [&str; 23] = [
    "url",
    "stream",
    "path",
    "connectTimeout",
    "localSocket",
    "tlsCa",
    "tlsCert",
    "tlsKey",
    "tlsServerName",
    "tokenFile",
    "partitions",
    "routing",
    "maxBufferedBatches",
    "maxBufferedBytes",
    "maxSpoolBytes",
    "appendTimeout",
    "compression",
    "producer",
    "run",
    "epoch",
    "traceparent",
    "realTime",
    "realTimeLinger",
];

/// Names that a source knows.
pub const SOURCE_NAMES: [&str; 18] = [
    "url",
    "stream",
    "path",
    "connectTimeout",
    "localSocket",
    "tlsCa",
    "tlsCert",
    "tlsKey",
    "tlsServerName",
    "tokenFile",
    "subscription",
    "startingOffsets",
    "endingOffsets",
    "maxBatchesPerTrigger",
    "maxBytesPerTrigger",
    "failOnProducerLost",
    "completeOnStop",
    "onOverflow",
];

impl SinkOptions {
    /// Reads a sink's options.
    ///
    /// # Errors
    /// `invalid_argument`: names what is wrong and what is known.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Error> {
        let given = Given::new(pairs, &SINK_NAMES)?;
        let epoch = given.number("epoch", 0)?;
        if epoch.is_some() && given.text("producer").is_none() {
            return Err(Error::invalid("option 'epoch' needs option 'producer' too: an epoch is a number among one producer's"));
        }
        Ok(Self {
            place: place(&given)?,
            limits: StreamLimits {
                partitions: given.number("partitions", 1)?,
                max_buffered_batches: given.number("maxBufferedBatches", 1)?,
                max_buffered_bytes: given.number("maxBufferedBytes", 1)?,
                max_spool_bytes: given.number("maxSpoolBytes", 0)?,
            },
            routing: given.text("routing").unwrap_or("spark").parse()?,
            append_timeout: given.seconds("appendTimeout")?,
            compression: given.one_of("compression", &["none", "auto", "lz4", "zstd"])?.parse()?,
            producer: given.text("producer").map(str::to_owned),
            run: given.text("run").map(str::to_owned),
            epoch,
            context: given.text("traceparent").map(TraceContext::new).transpose()?,
            real_time: given.text("realTime").map(|_| given.truth("realTime", false)).transpose()?,
            real_time_linger: given.seconds("realTimeLinger")?.unwrap_or(REAL_TIME_LINGER),
        })
    }
}

impl SourceOptions {
    /// Reads a source's options.
    ///
    /// # Errors
    /// `invalid_argument`: names what is wrong and what is known.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Error> {
        let given = Given::new(pairs, &SOURCE_NAMES)?;
        Ok(Self {
            place: place(&given)?,
            subscription: given.text("subscription").map(str::to_owned),
            starting: given.bound("startingOffsets", Bound::Earliest)?,
            ending: given.bound("endingOffsets", Bound::Latest)?,
            on_overflow: on_overflow(&given)?,
            max_batches: given.number("maxBatchesPerTrigger", 1)?,
            max_bytes: given.number("maxBytesPerTrigger", 1)?,
            fail_on_producer_lost: given.truth("failOnProducerLost", true)?,
            complete_on_stop: given.truth("completeOnStop", false)?,
        })
    }

    /// Whether a micro-batch has a limit.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.max_batches.is_some() || self.max_bytes.is_some()
    }
}

fn place(given: &Given) -> Result<Place, Error> {
    let url = given.text("url").ok_or_else(|| {
        Error::invalid("format(\"bowstring\") needs option 'url', for instance grpc://127.0.0.1:8815: where the coordinator listens")
    })?;
    let stream = given
        .text("stream")
        .or_else(|| given.text("path"))
        .ok_or_else(|| Error::invalid("format(\"bowstring\") needs option 'stream': the stream's name on the coordinator"))?;
    Ok(Place {
        url: url.to_owned(),
        stream: stream.to_owned(),
        connect_timeout: given.seconds("connectTimeout")?.unwrap_or(CONNECT_TIMEOUT),
        local_socket: given.truth("localSocket", true)?,
        tls: TlsOptions {
            ca: given.text("tlsCa").map(PathBuf::from),
            cert: given.text("tlsCert").map(PathBuf::from),
            key: given.text("tlsKey").map(PathBuf::from),
            server_name: given.text("tlsServerName").map(str::to_owned),
        },
        token_file: given.text("tokenFile").map(PathBuf::from),
    })
}

fn on_overflow(given: &Given) -> Result<OnOverflow, Error> {
    if given.text("onOverflow").is_some_and(|text| text.eq_ignore_ascii_case("skip")) {
        return Err(Error::invalid(
            "option 'onOverflow' is 'skip', but Spark may read what it has planned once more, and skipped batches are gone by then; \
             use hold, or evict, which ends the query with an error",
        ));
    }
    Ok(match given.one_of("onOverflow", &["hold", "evict"])? {
        "evict" => OnOverflow::Evict,
        _ => OnOverflow::Hold,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Code;

    const BASE: [(&str, &str); 2] = [("url", "grpc://h:1"), ("stream", "s")];

    fn sink(more: &[(&'static str, &'static str)]) -> Result<SinkOptions, Error> {
        SinkOptions::parse(BASE.iter().chain(more).copied())
    }

    fn source(more: &[(&'static str, &'static str)]) -> Result<SourceOptions, Error> {
        SourceOptions::parse(BASE.iter().chain(more).copied())
    }

    #[test]
    fn names_are_found_whatever_their_case_and_spark_s_own_are_left_alone() {
        let found = sink(&[("MAXBUFFEREDBATCHES", " 3 "), ("checkpointLocation", "/c"), ("queryName", "q"), ("appendtimeout", "1.5s")]);
        let found = found.expect("all are known");
        assert_eq!(found.limits.max_buffered_batches, Some(3));
        assert_eq!(found.append_timeout, Some(Duration::from_millis(1500)));
        assert_eq!(found.place.connect_timeout, CONNECT_TIMEOUT);
        assert_eq!((found.real_time, found.real_time_linger), (None, REAL_TIME_LINGER));
        let given = sink(&[("realTime", "True"), ("realTimeLinger", "0.02")]).expect("both are known");
        assert_eq!((given.real_time, given.real_time_linger), (Some(true), Duration::from_millis(20)));
        assert_eq!(SinkOptions::parse([("url", "u"), ("path", "p")]).expect("a path").place.stream, "p");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_can() {
        let sinks: [(&[(&str, &str)], &str); 13] = [
            (&[("shards", "3")], "does not know the option 'shards'; it knows: url, stream"),
            (&[("partitions", "0")], "option 'partitions' is '0'; it has to be a whole number of at least 1"),
            (&[("partitions", "4294967296")], "option 'partitions' is '4294967296'"),
            (&[("epoch", "1")], "needs option 'producer'"),
            (&[("epoch", "-1"), ("producer", "p")], "option 'epoch' is '-1'"),
            (&[("appendTimeout", "0")], "a number of seconds above 0"),
            (&[("appendTimeout", "inf")], "a number of seconds above 0"),
            (&[("compression", "gzip")], "use one of: none, auto, lz4, zstd"),
            (&[("tlsCa", "/ca.pem"), ("tlsKy", "/key.pem")], "tlsKy"),
            (&[("localSocket", "yes")], "true or false"),
            (&[("traceparent", "00-1")], "traceparent is \"00-1\", no context of version 00"),
            (&[("realTime", "auto")], "option 'realTime' is 'auto'; it has to be true or false"),
            (&[("realTimeLinger", "-1")], "option 'realTimeLinger' is '-1'; it has to be a number of seconds above 0"),
        ];
        for (more, part) in sinks {
            let error = sink(more).expect_err(part);
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.to_string().contains(part), "{error}");
        }
        for (given, part) in [(vec![], "needs option 'url'"), (vec![("url", "u")], "needs option 'stream'")] {
            assert!(SinkOptions::parse(given).expect_err(part).to_string().contains(part));
        }
    }

    #[test]
    fn a_source_starts_where_it_is_told() {
        assert_eq!(source(&[]).expect("defaults").starting, Bound::Earliest);
        assert_eq!(source(&[("startingOffsets", "latest")]).expect("a word").starting, Bound::Latest);
        let at = source(&[("startingOffsets", r#"{"0": 12, "1": 7}"#)]).expect("offsets").starting;
        assert_eq!(at, Bound::At([(PartitionId(0), Offset(12)), (PartitionId(1), Offset(7))].into()));
        for wrong in ["first", "[1]", r#"{"a": 1}"#, r#"{"0": -1}"#, r#"{"-1": 1}"#] {
            let error = source(&[("startingOffsets", wrong)]).expect_err(wrong);
            assert!(error.to_string().contains("earliest, latest, or JSON"), "{error}");
        }
    }

    #[test]
    fn a_source_holds_what_it_has_planned_or_is_evicted() {
        assert_eq!(source(&[]).expect("defaults").on_overflow, OnOverflow::Hold);
        assert_eq!(source(&[("onOverflow", "EVICT")]).expect("a word").on_overflow, OnOverflow::Evict);
        assert!(source(&[("onOverflow", "Skip")]).expect_err("it would lose").to_string().contains("use hold, or evict"));
    }
}
