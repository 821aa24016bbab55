//! The client's verbs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bowstring::client::{
    ClientOptions, Compression, Offsets, ProducerOptions, ProducerRun, SubscribeOptions, TlsOptions, TokenSource, TraceContext, WriterId,
    WriterOptions, blocking,
};
use bowstring::engine::{Attempt, Epoch, EpochState, Offset, OnOverflow, PartitionId, StreamId, Task};
use bowstring::wire::proto;
use bowstring::wire::schema::StreamSchema;
use bowstring::wire::secret::Secret;
use prost::Message;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arrow_ffi;
use crate::consumer::{Consumer, ConsumerArguments, start};
use crate::describe;
use crate::errors::{Raised, duration, internal, invalid, wait};
use crate::producer::{EpochWriter, Producer};
use crate::server;

/// The fields of `bowstring.starts.PartitionMove`.
type MoveFields = (u32, u64, u64, u64, u64, u64, u64);

/// A connection to a coordinator.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct Client(blocking::Client);

/// Python's arguments; see `bowstring.client.Client.create_stream`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct StreamArguments<'py> {
    schema: Option<Bound<'py, PyAny>>,
    partitions: Option<u32>,
    max_buffered_batches: Option<u64>,
    max_buffered_bytes: Option<u64>,
    max_spool_bytes: Option<u64>,
    max_disk_bytes: Option<u64>,
    retain_ms: Option<u64>,
    retain_bytes: Option<u64>,
    visibility: Option<String>,
    full_policy: Option<String>,
    max_wait_ms: Option<u64>,
    resume_percent: Option<u32>,
    schema_policy: Option<String>,
    if_not_exists: bool,
}

fn choice(what: &str, asked: Option<&str>, known: &[(&str, i32)]) -> PyResult<i32> {
    let Some(asked) = asked else { return Ok(0) };
    let found = known.iter().find(|(name, _)| *name == asked).map(|(_, number)| *number);
    found.ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        invalid(&format!("{what} is {asked:?}; use one of {}", names.join(", ")))
    })
}

impl StreamArguments<'_> {
    fn request(self, stream: &str) -> PyResult<proto::CreateStreamRequest> {
        let visibilities = [("committed", proto::Visibility::Committed as i32), ("immediate", proto::Visibility::Immediate as i32)];
        let policies = [
            ("wait", proto::FullPolicy::Wait as i32),
            ("reject", proto::FullPolicy::Reject as i32),
            ("drop_oldest", proto::FullPolicy::DropOldest as i32),
            ("spill", proto::FullPolicy::Spill as i32),
        ];
        let schema_policies = [
            ("strict", proto::SchemaPolicy::Strict as i32),
            ("additive", proto::SchemaPolicy::Additive as i32),
            ("widening", proto::SchemaPolicy::Widening as i32),
        ];
        let options = proto::StreamOptions {
            partitions: self.partitions,
            max_buffered_batches: self.max_buffered_batches,
            max_buffered_bytes: self.max_buffered_bytes,
            max_spool_bytes: self.max_spool_bytes,
            max_disk_bytes: self.max_disk_bytes,
            retain_ms: self.retain_ms,
            retain_bytes: self.retain_bytes,
            max_wait_ms: self.max_wait_ms,
            resume_percent: self.resume_percent,
            visibility: choice("visibility", self.visibility.as_deref(), &visibilities)?,
            full_policy: choice("full_policy", self.full_policy.as_deref(), &policies)?,
            schema_policy: choice("schema_policy", self.schema_policy.as_deref(), &schema_policies)?,
        };
        let schema = match &self.schema {
            Some(object) => StreamSchema::from_arrow(&arrow_ffi::schema(object)?).map_err(internal)?.header().clone(),
            None => bytes::Bytes::new(),
        };
        Ok(proto::CreateStreamRequest { stream: stream.to_owned(), options: Some(options), schema, if_not_exists: self.if_not_exists })
    }
}

fn offsets(given: BTreeMap<u32, u64>) -> Offsets {
    given.into_iter().map(|(partition, offset)| (PartitionId(partition), Offset(offset))).collect()
}

fn state_name(state: EpochState) -> &'static str {
    match state {
        EpochState::Open => "open",
        EpochState::Committed => "committed",
        EpochState::AlreadyCommitted => "already_committed",
        EpochState::Aborted => "aborted",
    }
}

fn run(producer: String, run: String) -> ProducerRun {
    ProducerRun { producer, run }
}

/// What secures the connection; see `bowstring.securing.security`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct SecurityArguments {
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_server_name: Option<String>,
    token_file: Option<PathBuf>,
    token: Option<TokenArgument>,
}

/// A token, or what gives the newest one.
#[derive(FromPyObject)]
enum TokenArgument {
    Fixed(String),
    Function(Py<PyAny>),
}

impl From<TokenArgument> for TokenSource {
    fn from(given: TokenArgument) -> Self {
        match given {
            TokenArgument::Fixed(token) => Self::Fixed(Secret::new(&token)),
            TokenArgument::Function(function) => Self::Function(Arc::new(move || newest_token(&function))),
        }
    }
}

/// Asks on a thread of the client's, which may outlive Python.
fn newest_token(function: &Py<PyAny>) -> Result<Secret, String> {
    let asked = Python::try_attach(|py| {
        let given = function.call0(py).map_err(|error| format!("the function token raised {error}"))?;
        // What it is stays untold: it may be a token in another type.
        given.extract::<String>(py).map(|token| Secret::new(&token)).map_err(|_| "the function token gave no str".to_owned())
    });
    asked.unwrap_or_else(|| Err("Python ends".to_owned()))
}

#[pymethods]
impl Client {
    #[new]
    fn new(
        py: Python<'_>,
        url: &str,
        timeout: f64,
        retry_deadline: f64,
        local_socket: bool,
        shared_memory: bool,
        security: SecurityArguments,
    ) -> PyResult<Self> {
        let tls = TlsOptions { ca: security.tls_ca, cert: security.tls_cert, key: security.tls_key, server_name: security.tls_server_name };
        let token = match (security.token, security.token_file) {
            (Some(token), _) => token.into(),
            (None, Some(path)) => TokenSource::File(path),
            (None, None) => TokenSource::default(),
        };
        let options = ClientOptions {
            connect_timeout: duration("timeout", timeout)?,
            retry_deadline: duration("retry_deadline", retry_deadline)?,
            local_socket,
            shared_memory,
            tls,
            token,
            ..ClientOptions::default()
        };
        let local = if local_socket { server::local(url) } else { None };
        let client = match local {
            Some(service) => wait(py, None, |wait| blocking::Client::within_process(url, service, options, wait)),
            None => wait(py, None, |wait| blocking::Client::connect(url, options, wait)),
        };
        client.map(Self)
    }

    #[getter]
    fn url(&self) -> &str {
        self.0.url()
    }

    fn create_stream<'py>(&self, py: Python<'py>, stream: &str, arguments: StreamArguments<'py>) -> PyResult<Bound<'py, PyDict>> {
        let request = arguments.request(stream)?;
        describe::description(py, &wait(py, None, |wait| self.0.create_stream(request, wait))?)
    }

    fn describe_stream<'py>(&self, py: Python<'py>, stream: &str) -> PyResult<Bound<'py, PyDict>> {
        describe::description(py, &wait(py, None, |wait| self.0.describe_stream(stream, wait))?)
    }

    fn list_streams<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let streams = wait(py, None, |wait| self.0.list_streams(wait))?;
        PyList::new(py, streams.iter().map(|stream| describe::description(py, stream)).collect::<PyResult<Vec<_>>>()?)
    }

    fn delete_stream(&self, py: Python<'_>, stream: &str) -> PyResult<()> {
        wait(py, None, |wait| self.0.delete_stream(stream, wait))
    }

    fn complete_stream(&self, py: Python<'_>, stream: &str) -> PyResult<()> {
        wait(py, None, |wait| self.0.complete_stream(stream, wait))
    }

    fn fail_stream(&self, py: Python<'_>, stream: &str, reason: &str) -> PyResult<()> {
        wait(py, None, |wait| self.0.fail_stream(stream, reason, wait))
    }

    fn open_epoch(&self, py: Python<'_>, stream: &str, producer: String, run_id: String, epoch: u64) -> PyResult<&'static str> {
        let run = run(producer, run_id);
        wait(py, None, |wait| self.0.open_epoch(stream, &run, Epoch(epoch), wait)).map(state_name)
    }

    #[pyo3(signature = (stream, producer, run_id, epoch, receipts, traceparent=None))]
    #[expect(clippy::needless_pass_by_value, reason = "Python's bytes are copied on their way in")]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn commit_epoch(
        &self,
        py: Python<'_>,
        stream: &str,
        producer: String,
        run_id: String,
        epoch: u64,
        receipts: Vec<Vec<u8>>,
        traceparent: Option<&str>,
    ) -> PyResult<&'static str> {
        let context = traceparent.map(TraceContext::new).transpose().map_err(Raised::from)?;
        let run = run(producer, run_id);
        let decode = |bytes: &Vec<u8>| {
            proto::Receipt::decode(bytes.as_slice()).map_err(|error| invalid(&format!("no receipt of a writer: {error}")))
        };
        let receipts = receipts.iter().map(decode).collect::<PyResult<Vec<_>>>()?;
        let client = self.0.within(context);
        wait(py, None, |wait| client.commit_epoch(stream, &run, Epoch(epoch), receipts, wait)).map(state_name)
    }

    fn abort_epoch(&self, py: Python<'_>, stream: &str, producer: String, run_id: String, epoch: u64) -> PyResult<&'static str> {
        let run = run(producer, run_id);
        wait(py, None, |wait| self.0.abort_epoch(stream, &run, Epoch(epoch), wait)).map(state_name)
    }

    fn keep_producer(&self, py: Python<'_>, stream: &str, producer: String, run_id: String, lease: f64) -> PyResult<()> {
        let (run, lease) = (run(producer, run_id), duration("lease", lease)?);
        wait(py, None, |wait| self.0.keep_producer(stream, &run, lease, wait))
    }

    #[pyo3(signature = (stream, subscription, from, on_overflow, mode=None, sharing=None, query=None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn subscribe<'py>(
        &self,
        py: Python<'py>,
        stream: &str,
        subscription: &str,
        from: &str,
        on_overflow: &str,
        mode: Option<&str>,
        sharing: Option<crate::consumer::SharingArguments>,
        query: Option<String>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let start = start(from)?;
        let known = OnOverflow::ALL.map(OnOverflow::as_str).join(", ");
        let unknown = || invalid(&format!("on_overflow is {on_overflow:?}; use one of {known}"));
        let on_overflow = OnOverflow::from_name(on_overflow).ok_or_else(unknown)?;
        let mode = mode.map(crate::consumer::mode).transpose()?;
        let options = SubscribeOptions { on_overflow, mode, sharing: sharing.map(Into::into), query };
        describe::subscription(py, &wait(py, None, |wait| self.0.subscribe_with(stream, subscription, &start, options, wait))?)
    }

    fn unsubscribe(&self, py: Python<'_>, stream: &str, subscription: &str) -> PyResult<()> {
        wait(py, None, |wait| self.0.unsubscribe(stream, subscription, wait))
    }

    #[pyo3(signature = (stream, subscription, to, stream_id=None))]
    fn ack(&self, py: Python<'_>, stream: &str, subscription: &str, to: BTreeMap<u32, u64>, stream_id: Option<u64>) -> PyResult<()> {
        let to = offsets(to);
        wait(py, None, |wait| self.0.ack(stream, subscription, &to, stream_id.map(StreamId), wait))
    }

    #[pyo3(signature = (stream, subscription, to, stream_id=None))]
    fn plan(&self, py: Python<'_>, stream: &str, subscription: &str, to: BTreeMap<u32, u64>, stream_id: Option<u64>) -> PyResult<()> {
        let to = offsets(to);
        wait(py, None, |wait| self.0.plan(stream, subscription, &to, stream_id.map(StreamId), wait))
    }

    #[pyo3(signature = (stream, subscription, to, dry_run, stream_id=None))]
    fn seek(
        &self,
        py: Python<'_>,
        stream: &str,
        subscription: &str,
        to: &str,
        dry_run: bool,
        stream_id: Option<u64>,
    ) -> PyResult<Vec<MoveFields>> {
        let to = start(to)?;
        let moves = wait(py, None, |wait| self.0.seek(stream, subscription, &to, stream_id.map(StreamId), dry_run, wait))?;
        Ok(moves.iter().map(|one| (one.partition.0, one.from.0, one.to.0, one.batches, one.rows, one.bytes, one.gone_batches)).collect())
    }

    fn why<'py>(&self, py: Python<'py>, stream: &str) -> PyResult<Bound<'py, PyDict>> {
        describe::why(py, &wait(py, None, |wait| self.0.why(stream, wait))?)
    }

    fn lag<'py>(&self, py: Python<'py>, stream: &str) -> PyResult<Bound<'py, PyList>> {
        describe::lags(py, &wait(py, None, |wait| self.0.lag(stream, wait))?)
    }

    #[pyo3(signature = (stream=None))]
    fn get_stats<'py>(&self, py: Python<'py>, stream: Option<&str>) -> PyResult<Bound<'py, PyDict>> {
        describe::stats(py, &wait(py, None, |wait| self.0.stats(stream, wait))?)
    }

    #[pyo3(signature = (stream, producer_id=None, partition=None, append_timeout=None, keep_alive=None, schema=None, compression=None))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn producer(
        &self,
        py: Python<'_>,
        stream: &str,
        producer_id: Option<String>,
        partition: Option<u32>,
        append_timeout: Option<f64>,
        keep_alive: Option<f64>,
        schema: Option<Bound<'_, PyAny>>,
        compression: Option<&str>,
    ) -> PyResult<Producer> {
        let options = ProducerOptions {
            producer: producer_id,
            partition: partition.map(PartitionId),
            schema: schema.map(|schema| arrow_ffi::schema(&schema).map(Into::into)).transpose()?,
            append_timeout: append_timeout.map(|seconds| duration("append_timeout", seconds)).transpose()?,
            keep_alive: keep_alive.map(|seconds| duration("keep_alive", seconds)).transpose()?,
            compression: codec(compression)?,
            ..ProducerOptions::default()
        };
        wait(py, None, |wait| self.0.producer(stream, options, wait)).map(Producer::new)
    }

    #[pyo3(signature = (stream, producer, run, epoch, task, attempt, append_timeout=None, compression=None))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn writer(
        &self,
        py: Python<'_>,
        stream: &str,
        producer: String,
        run: String,
        epoch: u64,
        task: u32,
        attempt: u64,
        append_timeout: Option<f64>,
        compression: Option<&str>,
    ) -> PyResult<EpochWriter> {
        let id = WriterId { producer, run, epoch: Epoch(epoch), task: Task(task), attempt: Attempt(attempt) };
        let append_timeout = append_timeout.map(|seconds| duration("append_timeout", seconds)).transpose()?;
        let options = WriterOptions { append_timeout, compression: codec(compression)?, ..WriterOptions::default() };
        wait(py, None, |wait| self.0.writer(stream, id, options, wait)).map(EpochWriter::new)
    }

    fn consumer(&self, py: Python<'_>, stream: &str, arguments: ConsumerArguments<'_>) -> PyResult<Consumer> {
        let options = arguments.options()?;
        let by_epoch = options.by_epoch;
        wait::<_>(py, None, |wait| Ok(Consumer::new(self.0.consumer::<Raised>(stream, options, wait)?, by_epoch)?))
    }
}

fn codec(name: Option<&str>) -> PyResult<Compression> {
    name.map_or_else(|| Ok(Compression::default()), |name| name.parse().map_err(|error| Raised::from(error).into()))
}
