//! The machine's limit: bytes through loopback TCP and one relay that looks at none of them.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use clap::Args;

use crate::wait_for_go;

/// As much as HTTP/2 frames of the real thing carry.
const CHUNK_BYTES: usize = 1 << 20;
const APPENDS: u8 = b'a';
const READS: u8 = b'r';

/// One end of the relay.
#[derive(Debug, Args)]
pub(crate) struct End {
    /// The relay's address.
    address: String,
    /// Bytes of a batch.
    bytes: usize,
    /// How many batches.
    batches: usize,
}

pub(crate) fn relay() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let (mut from, mut to) = (None, None);
    while from.is_none() || to.is_none() {
        let (mut end, _) = listener.accept()?;
        end.set_nodelay(true)?;
        let mut side = [0];
        end.read_exact(&mut side)?;
        *(if side == [APPENDS] { &mut from } else { &mut to }) = Some(end);
    }
    let (Some(mut from), Some(mut to)) = (from, to) else { return Ok(()) };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(()),
            read => to.write_all(&chunk[..read])?,
        }
    }
}

pub(crate) fn append(end: &End) -> Result<(), Box<dyn Error>> {
    let mut relay = connect(end, APPENDS)?;
    let batch = vec![7; end.bytes];
    wait_for_go()?;
    for _ in 0..end.batches {
        for chunk in batch.chunks(CHUNK_BYTES) {
            relay.write_all(chunk)?;
        }
    }
    Ok(())
}

pub(crate) fn read(end: &End) -> Result<(), Box<dyn Error>> {
    let mut relay = connect(end, READS)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    wait_for_go()?;
    let mut left = end.bytes * end.batches;
    while left > 0 {
        match relay.read(&mut chunk)? {
            0 => return Err(format!("the relay ended {left} bytes too early").into()),
            read => left -= read,
        }
    }
    Ok(())
}

fn connect(end: &End, side: u8) -> Result<TcpStream, Box<dyn Error>> {
    let mut relay = TcpStream::connect(&end.address)?;
    relay.set_nodelay(true)?;
    relay.write_all(&[side])?;
    Ok(relay)
}
