//! `bowstring-bench`: the ends of `make bench`'s relays in Rust. Each says `ready`, waits for a line, works, says `done`.
//! Not part of what is installed: it needs the feature `bench`.

mod ends;
mod tcp;

use std::error::Error;
use std::io::{BufRead, stdin};

use clap::Parser;

#[global_allocator]
static ALLOCATOR: bowstring_allocator::MiMalloc = bowstring_allocator::MiMalloc;

/// One end of a relay, or the raw TCP relay itself.
#[derive(Debug, Parser)]
enum Role {
    /// Appends batches to a stream and completes it.
    Append(ends::End),
    /// Reads a stream to its end, acking on the way.
    Read(ends::End),
    /// Takes bytes from the first connection and gives them to the second; prints its address first.
    TcpRelay,
    /// Sends bytes to a TCP relay.
    TcpAppend(tcp::End),
    /// Takes bytes from a TCP relay.
    TcpRead(tcp::End),
}

fn main() -> Result<(), Box<dyn Error>> {
    bowstring_allocator::keep_free_memory();
    match Role::parse() {
        Role::Append(end) => ends::append(&end)?,
        Role::Read(end) => ends::read(&end)?,
        Role::TcpRelay => tcp::relay()?,
        Role::TcpAppend(end) => tcp::append(&end)?,
        Role::TcpRead(end) => tcp::read(&end)?,
    }
    println!("done");
    Ok(())
}

/// Connected: from here on the time runs.
fn wait_for_go() -> Result<(), Box<dyn Error>> {
    println!("ready");
    stdin().lock().read_line(&mut String::new())?;
    Ok(())
}
