//! The coordinator inside the Python process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bowstring::engine::{Code, Retry};
use bowstring::server::{
    AuditConfig, AuthConfig, BLOCKING_THREAD_STAYS, IngestConfig, LocalService, Server as Running, ServerConfig, TlsConfig, UnixSocket,
};
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::errors::{duration, internal, invalid, raise};

/// Threads that serve: as many as move data at once on a small machine.
const WORKER_THREADS_MIN: usize = 2;

/// The coordinators in this process, by the URLs that clients connect to.
static LOCAL: Mutex<BTreeMap<String, (u32, LocalService)>> = Mutex::new(BTreeMap::new());

/// The coordinator that has this URL, if it is in this process: a forked child has but a copy.
pub(crate) fn local(url: &str) -> Option<LocalService> {
    let local = LOCAL.lock();
    local.get(url).filter(|(process, _)| *process == std::process::id()).map(|(_, service)| service.clone())
}

/// The coordinator ends; another one may have its URL by now.
fn forget(url: &str, running: &Running) {
    let mut local = LOCAL.lock();
    if local.get(url).is_some_and(|(_, service)| service.is(&running.service())) {
        local.remove(url);
    }
}

/// A running server with threads of its own.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct Server {
    /// A forked child has a copy without threads; it must neither use nor drop it.
    process: u32,
    url: String,
    unix_url: Option<String>,
    http_url: Option<String>,
    running: Mutex<Option<(Running, Runtime)>>,
}

/// Python's arguments; see `bowstring.StreamCoordinator` for what they mean.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Arguments {
    listen: String,
    http: Option<String>,
    unix: Option<String>,
    shared_memory: bool,
    advertise_host: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    insecure: bool,
    max_buffered_batches: u64,
    max_buffered_bytes: u64,
    max_spool_bytes: Option<u64>,
    max_disk_bytes: Option<u64>,
    max_wait_seconds: Option<f64>,
    resume_percent: Option<u32>,
    data_dir: Option<PathBuf>,
    object_store: Option<String>,
    spool_dir: Option<PathBuf>,
    default_partitions: u32,
    append_timeout: Option<f64>,
    validation: String,
    auth_tokens: Option<PathBuf>,
    audit_file: Option<PathBuf>,
    /// JSON.
    ingest: Option<String>,
    otlp_endpoint: Option<String>,
    trace_one_in: u64,
}

impl Arguments {
    fn config(self) -> PyResult<ServerConfig> {
        let address =
            |what: &str, text: &str| text.parse().map_err(|error| invalid(&format!("{what} is {text:?}: {error}; write 127.0.0.1:0")));
        let defaults = ServerConfig::default();
        let millis = |what, seconds: Option<f64>| {
            let duration = seconds.map(|seconds| duration(what, seconds)).transpose();
            duration.map(|duration| duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
        };
        let tls = match (self.tls_cert, self.tls_key, self.tls_client_ca) {
            (None, None, None) => None,
            (Some(cert), Some(key), client_ca) => Some(TlsConfig { cert, key, client_ca }),
            (Some(_), None, _) => return Err(invalid("tls_cert needs tls_key, the file of its private key")),
            (None, _, _) => return Err(invalid("TLS needs tls_cert, the file of the server's certificate")),
        };
        Ok(ServerConfig {
            listen: address("listen", &self.listen)?,
            http: self.http.as_deref().map(|http| address("http", http)).transpose()?,
            unix: self.unix.map_or(UnixSocket::Off, Into::into),
            shared_memory: self.shared_memory,
            advertise_host: self.advertise_host,
            tls,
            insecure: self.insecure,
            max_buffered_batches: self.max_buffered_batches,
            max_buffered_bytes: self.max_buffered_bytes,
            max_spool_bytes: self.max_spool_bytes.unwrap_or(defaults.max_spool_bytes),
            max_disk_bytes: self.max_disk_bytes.unwrap_or(defaults.max_disk_bytes),
            max_wait_ms: millis("max_wait_seconds", self.max_wait_seconds)?,
            resume_percent: self.resume_percent.unwrap_or(defaults.resume_percent),
            data_dir: self.data_dir,
            object_store: self.object_store,
            spool_dir: self.spool_dir,
            default_partitions: self.default_partitions,
            append_timeout_ms: millis("append_timeout", self.append_timeout)?,
            validation: self.validation.parse().map_err(|error: String| invalid(&error))?,
            auth: AuthConfig { tokens: self.auth_tokens, ..AuthConfig::default() },
            audit: AuditConfig { file: self.audit_file },
            ingest: self
                .ingest
                .map_or_else(|| Ok(BTreeMap::new()), |text| IngestConfig::from_json(&text).map_err(|error| invalid(&error)))?,
            otlp_endpoint: self.otlp_endpoint,
            trace_one_in: self.trace_one_in,
            ..defaults
        })
    }
}

#[pymethods]
impl Server {
    #[new]
    fn new(py: Python<'_>, arguments: Arguments) -> PyResult<Self> {
        let config = arguments.config()?;
        py.detach(|| {
            let threads = std::thread::available_parallelism().map_or(WORKER_THREADS_MIN, usize::from).max(WORKER_THREADS_MIN);
            let mut runtime = Builder::new_multi_thread();
            let runtime = runtime.worker_threads(threads).thread_keep_alive(BLOCKING_THREAD_STAYS);
            let runtime = runtime.thread_name("bowstring-server").enable_all().build();
            let runtime = runtime.map_err(internal)?;
            let started = runtime.block_on(Running::start(config));
            let running = started.map_err(|error| raise(Code::InvalidArgument, Retry::Never, &error.to_string()))?;
            let (url, unix_url, http_url) = (running.url(), running.unix_url(), running.http_url());
            LOCAL.lock().insert(url.clone(), (std::process::id(), running.service()));
            Ok(Self { process: std::process::id(), url, unix_url, http_url, running: Mutex::new(Some((running, runtime))) })
        })
    }

    /// What clients connect to.
    #[getter]
    fn url(&self) -> &str {
        &self.url
    }

    /// What clients on this host may connect to as well.
    #[getter]
    fn unix_url(&self) -> Option<&str> {
        self.unix_url.as_deref()
    }

    /// Where `/metrics` is, if anywhere.
    #[getter]
    fn http_url(&self) -> Option<&str> {
        self.http_url.as_deref()
    }

    /// Stops in good order within `grace` seconds. A second call does nothing.
    fn stop(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        let grace = duration("grace", grace)?;
        if self.process != std::process::id() {
            return Ok(());
        }
        py.detach(|| {
            if let Some((running, runtime)) = self.running.lock().take() {
                forget(&self.url, &running);
                runtime.block_on(running.shutdown(grace));
                drop(running);
                runtime.shutdown_timeout(Duration::from_secs(1));
            }
        });
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let running = self.running.lock().take();
        if self.process != std::process::id() {
            std::mem::forget(running);
        } else if let Some((running, runtime)) = running {
            forget(&self.url, &running);
            drop(running);
            runtime.shutdown_background();
        }
    }
}
