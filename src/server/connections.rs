//! The connections to a coordinator, counted: those that are open, those that were refused, and the certificate they begin with.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Why a connection was refused, or ended by the coordinator before its first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLetIn {
    /// The system had no descriptor, or no memory, for it.
    NoDescriptors,
    /// There are `connections_max` at its port.
    Full,
    /// Its address has `connections_per_peer_max` already.
    PeerLimit,
    /// It did not say in time what it wanted: no handshake, no HTTP/2, or no call.
    Silent,
    /// The port takes TLS, and it did not speak it.
    NotTls,
    /// Its TLS handshake failed: it does not trust the certificate, or has none that is trusted.
    Handshake,
}

impl NotLetIn {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::NoDescriptors, Self::Full, Self::PeerLimit, Self::Silent, Self::NotTls, Self::Handshake];

    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoDescriptors => "no_descriptors",
            Self::Full => "full",
            Self::PeerLimit => "peer_limit",
            Self::Silent => "silent",
            Self::NotTls => "not_tls",
            Self::Handshake => "handshake",
        }
    }
}

/// What is counted of connections.
#[derive(Debug, Default)]
pub struct ConnectionCounters {
    /// 0: nothing was listened on yet.
    open_max: AtomicU64,
    open: AtomicU64,
    open_unix: AtomicU64,
    refused: [AtomicU64; NotLetIn::ALL.len()],
    reloads: [AtomicU64; 2],
    /// 0: there is no TLS.
    certificate_end: AtomicI64,
}

impl ConnectionCounters {
    /// Counts a connection to the data and control plane until the guard is dropped.
    #[must_use]
    pub fn count(self: &Arc<Self>, by_unix_socket: bool) -> OpenConnection {
        self.open.fetch_add(1, Relaxed);
        self.open_unix.fetch_add(u64::from(by_unix_socket), Relaxed);
        OpenConnection { counters: self.clone(), by_unix_socket }
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Most connections that may be open at once; none where nothing is listened on.
    #[must_use]
    pub fn open_max(&self) -> Option<u64> {
        Some(self.open_max.load(Relaxed)).filter(|most| *most != 0)
    }

    /// Those of them that came by the Unix socket.
    #[must_use]
    pub fn open_unix(&self) -> u64 {
        self.open_unix.load(Relaxed)
    }

    /// Connections that were refused for this reason, at any port.
    #[must_use]
    pub fn refused(&self, refusal: NotLetIn) -> u64 {
        self.refused[refusal as usize].load(Relaxed)
    }

    /// How often the files of TLS had changed and were used, and how often they could not be.
    #[must_use]
    pub fn reloads(&self) -> (u64, u64) {
        let [failed, done] = &self.reloads;
        (done.load(Relaxed), failed.load(Relaxed))
    }

    /// When the certificate ends, in seconds since 1970; none without TLS.
    #[must_use]
    pub fn certificate_end(&self) -> Option<i64> {
        Some(self.certificate_end.load(Relaxed)).filter(|end| *end != 0)
    }

    pub(super) fn refuse(&self, refusal: NotLetIn) {
        self.refused[refusal as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn set_open_max(&self, most: usize) {
        self.open_max.store(most as u64, Relaxed);
    }

    pub(super) fn count_reload(&self, done: bool) {
        self.reloads[usize::from(done)].fetch_add(1, Relaxed);
    }

    pub(super) fn set_certificate_end(&self, end: i64) {
        self.certificate_end.store(end, Relaxed);
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub struct OpenConnection {
    counters: Arc<ConnectionCounters>,
    by_unix_socket: bool,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Relaxed);
        self.counters.open_unix.fetch_sub(u64::from(self.by_unix_socket), Relaxed);
    }
}
