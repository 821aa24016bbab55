//! The machine's limit: bytes through loopback TCP or a Unix socket, and a relay that looks at none of them.

use std::error::Error;
use std::io::{Read, Result as IoResult, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use clap::Args;

use crate::report::{due, monotonic_ns, wait_for_go};
use crate::{MADE_BYTES_MAX, Work};

/// As much as HTTP/2 frames of the real thing carry.
const CHUNK_BYTES: usize = 1 << 20;
/// A connection's first byte says what it is.
const APPENDS: u8 = b'a';
const READS: u8 = b'r';
const PUTS: u8 = b'p';
const GETS: u8 = b'g';

/// One end.
#[derive(Debug, Args)]
pub(crate) struct End {
    /// The server's address: host:port, or the path of its socket.
    address: String,
    /// What is measured.
    work: Work,
    /// Bytes of a batch.
    bytes: usize,
    /// How many batches.
    batches: usize,
    /// Batches per second, each stamped in its first eight bytes.
    #[arg(long)]
    rate: Option<f64>,
}

/// A connection of either kind.
trait Connection: Read + Write + Send + Sync {}
impl Connection for TcpStream {}
impl Connection for UnixStream {}

type Waiting = SyncSender<Box<dyn Connection>>;

/// Serves until it is killed: the relay has one connection of each side at a time.
pub(crate) fn serve(listen: &str) -> Result<(), Box<dyn Error>> {
    let (readers, waiting) = sync_channel(1);
    let (appenders, appending) = sync_channel(1);
    thread::spawn(move || relays(&appending, &waiting));
    if listen == "tcp" {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("{}", listener.local_addr()?);
        for connection in listener.incoming() {
            let connection = connection?;
            connection.set_nodelay(true)?;
            take(Box::new(connection), &appenders, &readers);
        }
    } else {
        let listener = UnixListener::bind(listen)?;
        println!("{listen}");
        for connection in listener.incoming() {
            take(Box::new(connection?), &appenders, &readers);
        }
    }
    Ok(())
}

fn take(mut connection: Box<dyn Connection>, appenders: &Waiting, readers: &Waiting) {
    let (appenders, readers) = (appenders.clone(), readers.clone());
    thread::spawn(move || {
        let mut role = [0];
        connection.read_exact(&mut role)?;
        match role[0] {
            APPENDS => appenders.send(connection).map_err(std::io::Error::other),
            READS => readers.send(connection).map_err(std::io::Error::other),
            PUTS => swallow(&mut *connection),
            _ => give(&mut *connection),
        }
    });
}

fn relays(appending: &Receiver<Box<dyn Connection>>, waiting: &Receiver<Box<dyn Connection>>) -> IoResult<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let (Ok(mut from), Ok(mut to)) = (appending.recv(), waiting.recv()) {
        loop {
            match from.read(&mut chunk)? {
                0 => break,
                read => to.write_all(&chunk[..read])?,
            }
        }
    }
    Ok(())
}

/// Takes as many bytes as the first eight say, and confirms them.
fn swallow(from: &mut dyn Connection) -> IoResult<()> {
    let left = announced(from)?;
    take_all(from, left)?;
    from.write_all(&[1])
}

/// Gives as many bytes as it was asked for, from as much memory as the others have them in.
fn give(to: &mut dyn Connection) -> IoResult<()> {
    let mut left = announced(to)?;
    let made = vec![7; left.min(MADE_BYTES_MAX)];
    to.write_all(&[1])?;
    to.read_exact(&mut [0])?;
    for chunk in made.chunks(CHUNK_BYTES).cycle() {
        if left == 0 {
            break;
        }
        let now = left.min(chunk.len());
        to.write_all(&chunk[..now])?;
        left -= now;
    }
    Ok(())
}

fn announced(connection: &mut dyn Connection) -> IoResult<usize> {
    let mut bytes = [0; 8];
    connection.read_exact(&mut bytes)?;
    usize::try_from(u64::from_le_bytes(bytes)).map_err(std::io::Error::other)
}

fn take_all(from: &mut dyn Connection, mut left: usize) -> IoResult<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    while left > 0 {
        match from.read(&mut chunk)? {
            0 => return Err(std::io::Error::other(format!("the other side ended {left} bytes too early"))),
            read => left -= read,
        }
    }
    Ok(())
}

pub(crate) fn append(end: &End) -> Result<(), Box<dyn Error>> {
    let put = end.work == Work::Put;
    let mut connection = connect(end, if put { PUTS } else { APPENDS })?;
    let mut batch = vec![7; end.bytes];
    let meter = wait_for_go()?;
    if put {
        connection.write_all(&((end.bytes * end.batches) as u64).to_le_bytes())?;
    }
    let mut woke_ns = meter.begun_ns;
    for number in 0..end.batches {
        if let Some(rate) = end.rate {
            batch[..8].copy_from_slice(&due(meter.begun_ns, number as u64, rate, &mut woke_ns).to_le_bytes());
        }
        for chunk in batch.chunks(CHUNK_BYTES) {
            connection.write_all(chunk)?;
        }
    }
    if put {
        connection.read_exact(&mut [0])?;
    }
    meter.report(end.batches as u64, (end.bytes * end.batches) as u64, &[]);
    Ok(())
}

pub(crate) fn read(end: &End) -> Result<(), Box<dyn Error>> {
    let get = end.work == Work::Get;
    let mut connection = connect(end, if get { GETS } else { READS })?;
    let bytes = end.bytes * end.batches;
    if get {
        connection.write_all(&(bytes as u64).to_le_bytes())?;
        connection.read_exact(&mut [0])?;
    }
    let meter = wait_for_go()?;
    if get {
        connection.write_all(&[1])?;
    }
    let mut latencies = Vec::new();
    if end.work == Work::Latency {
        let mut batch = vec![0; end.bytes];
        for _ in 0..end.batches {
            connection.read_exact(&mut batch)?;
            let stamp: [u8; 8] = batch[..8].try_into()?;
            latencies.push(monotonic_ns().saturating_sub(u64::from_le_bytes(stamp)));
        }
    } else {
        take_all(&mut *connection, bytes)?;
    }
    meter.report(end.batches as u64, bytes as u64, &latencies);
    Ok(())
}

fn connect(end: &End, role: u8) -> IoResult<Box<dyn Connection>> {
    let mut connection: Box<dyn Connection> = if end.address.contains('/') {
        Box::new(UnixStream::connect(&end.address)?)
    } else {
        let connection = TcpStream::connect(&end.address)?;
        connection.set_nodelay(true)?;
        Box::new(connection)
    };
    connection.write_all(&[role])?;
    Ok(connection)
}
