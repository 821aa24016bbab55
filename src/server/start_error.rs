//! Why a server did not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::access::AccessError;
use super::binding::Unprotected;
use super::config::ConfigError;
use super::ingest::IngestError;
use super::store::StoreError;
use super::tls::TlsError;
use super::trace::TraceError;
use super::unix::UnixError;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A number of the configuration is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address, or port 0 for a free one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A Unix socket that was named cannot be listened on.
    #[error("cannot listen on the Unix socket {}: {source}; name another path, or turn it off with unix = \"off\"", path.display())]
    Unix {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: UnixError,
    },
    /// An address that others than this host reach, without TLS.
    #[error(transparent)]
    Unprotected(#[from] Unprotected),
    /// A file of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Access cannot be controlled as the configuration says.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Rows cannot be taken over HTTP as the configuration says.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// Traces cannot be sent.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The folder for spooled batches cannot be made.
    #[error("cannot use the spool folder: {0}; choose another spool_dir")]
    Spool(#[source] std::io::Error),
    /// There is an object store and no data directory.
    #[error("object_store needs a data_dir: what is not in the object store yet is there, and readers read from it; name an empty folder")]
    NoDataDir,
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    Data {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}
