//! Links as they come in: from this user's processes only, each greeted and then served until it ends.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use rand::random;
#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::arena::AllArenas;
use super::link::Link;
use crate::server::error::Error;
use crate::server::unix::{SocketFile, UnixError, listen};
use crate::shared::{Frame, LinkReader, LinkWriter, Said, VERSION, link};

/// What the path of the links' socket has behind that of the calls' socket.
const SUFFIX: &str = ".shared";
/// How long a client may take to say that it is one.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The links that are open, by what calls name them by.
#[derive(Debug, Default)]
pub(in crate::server) struct Links {
    open: Mutex<HashMap<u64, Arc<Link>>>,
    arenas: Arc<AllArenas>,
}

impl Links {
    /// The link that a call names; none once its client is gone.
    pub(in crate::server) fn get(&self, number: u64) -> Option<Arc<Link>> {
        self.open.lock().get(&number).cloned()
    }

    /// A call of `principal` names it: from the first one on it is that principal's. Its number is a secret of its client, and yet
    /// nobody is to use what another has opened.
    ///
    /// # Errors
    /// `unavailable`: another principal's link is no link.
    pub(in crate::server) fn claim(&self, number: u64, principal: Option<&Arc<str>>) -> Result<(), Error> {
        match (self.get(number), principal) {
            (Some(link), Some(principal)) if link.owner(principal) != principal => Err(Error::LinkEnded),
            _ => Ok(()),
        }
    }

    /// How many there are.
    pub(in crate::server) fn count(&self) -> u64 {
        self.open.lock().len() as u64
    }

    /// Bytes of the arenas that are mapped: their producers lend them, or batches lie in them.
    pub(in crate::server) fn mapped_bytes(&self) -> u64 {
        self.arenas.mapped_bytes.load(Relaxed)
    }

    /// Bytes that consumers look at.
    pub(in crate::server) fn looked_at_bytes(&self) -> u64 {
        self.open.lock().values().map(|link| link.looked_at_bytes()).sum()
    }

    /// The server ends: no producer hears any more that a slot is free. Links of consumers end without regard to what they
    /// still look at.
    pub(in crate::server) fn hush(&self) {
        self.arenas.hushed.store(true, Relaxed);
        self.open.lock().values().for_each(|link| link.hush());
    }

    /// A new link, in the list until the guard is dropped.
    fn open(self: &Arc<Self>) -> ListedLink {
        let (number, link) = (random(), Arc::new(Link::new(self.arenas.clone())));
        self.open.lock().insert(number, link.clone());
        ListedLink { links: self.clone(), number, link }
    }
}

struct ListedLink {
    links: Arc<Links>,
    number: u64,
    link: Arc<Link>,
}

impl ListedLink {
    /// The client has ended it, or is dead.
    fn ended(self) {
        self.link.end();
    }
}

impl Drop for ListedLink {
    fn drop(&mut self) {
        self.links.open.lock().remove(&self.number);
        if self.link.is_looked_at() {
            // Its task was ended, by the server's end or a panic: whoever lets go from here on does not say that nobody looks.
            self.links.hush();
        }
        self.link.end();
    }
}

/// Listens beside the socket of the calls.
///
/// # Errors
/// Why not: the path may be too long by a few bytes.
pub(in crate::server) async fn bind(beside: &Path) -> Result<(UnixListener, SocketFile), UnixError> {
    let mut path = beside.as_os_str().to_owned();
    path.push(SUFFIX);
    listen(&PathBuf::from(path)).await
}

/// Serves all links: takes new ones until `stopping`, and ends with `stopped`, when the calls that look there have ended.
pub(in crate::server) async fn serve(
    listener: UnixListener,
    links: Arc<Links>,
    server: u128,
    links_max: usize,
    (stopping, stopped): (CancellationToken, CancellationToken),
) {
    let mut tasks = JoinSet::new();
    tokio::select! {
        () = accept(&listener, &links, server, links_max, &mut tasks) => {}
        () = stopping.cancelled() => {}
    }
    drop(listener);
    stopped.cancelled().await;
    links.hush();
}

async fn accept(listener: &UnixListener, links: &Arc<Links>, server: u128, links_max: usize, tasks: &mut JoinSet<()>) {
    let slots = Arc::new(Semaphore::new(links_max));
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let links = links.clone();
                tasks.spawn(async move {
                    if let Err(error) = serve_one(socket, &links, server).await {
                        tracing::debug!(%error, "a link ended with an error");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a link; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one(socket: UnixStream, links: &Arc<Links>, server: u128) -> io::Result<()> {
    let peer = socket.peer_cred()?;
    // Its memory will be trusted to hold still, which another user's is not.
    if peer.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (mut reader, writer) = link(socket);
    let greeting = tokio::time::timeout(GREETING_TIMEOUT, reader.next()).await??;
    if !matches!(greeting, Some((Frame::Hello { version: VERSION }, None))) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let listed = links.open();
    welcome(&writer, listed.number, server).await?;
    let served = tokio::select! {
        served = serve_until_end(&listed.link, &mut reader, &writer) => served,
        // The socket may live on in a child that it has forked.
        () = death(peer.pid()) => Ok(()),
    };
    listed.ended();
    served
}

/// Serves the link until its client has ended it. After an error the client may go on looking at what it looks at.
async fn serve_until_end(link: &Link, reader: &mut LinkReader, writer: &LinkWriter) -> io::Result<()> {
    let served = link.run(reader, writer).await;
    link.stop();
    if served.is_err() {
        writer.finish();
        reader.ended().await;
    }
    served
}

/// Ends when the process has; never where that cannot be known.
#[cfg(target_os = "linux")]
async fn death(process: Option<i32>) {
    let open = || {
        let process = rustix::process::Pid::from_raw(process?)?;
        let descriptor = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).ok()?;
        #[expect(deprecated, reason = "its successor is unsafe, for types that are no descriptors; this one is")]
        AsyncFd::with_interest(descriptor, Interest::READABLE).ok()
    };
    let ended = match open() {
        Some(descriptor) => descriptor.readable().await.is_ok(),
        None => false,
    };
    if !ended {
        std::future::pending::<()>().await;
    }
}

#[cfg(not(target_os = "linux"))]
async fn death(_: Option<i32>) {
    std::future::pending::<()>().await;
}

async fn welcome(writer: &LinkWriter, link: u64, server: u128) -> io::Result<()> {
    writer.send(&[Said::Word(Frame::Welcome { link, server })]).await
}
