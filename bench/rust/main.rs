//! `bowstring-bench`: what `make bench` compares bowstring with, in Rust: raw sockets and arrow-flight as it comes.
//! Servers print their address first. Ends say `ready`, wait for a line, work, and print a report, as `bowstring bench`'s
//! own ends do. Not part of what is installed: it needs the feature `bench`.

mod raw;
mod report;
mod stock;
mod stock_server;

use std::error::Error;

use clap::{Parser, ValueEnum};

#[global_allocator]
static ALLOCATOR: bowstring_allocator::MiMalloc = bowstring_allocator::MiMalloc;

/// A server, or one end of what it carries.
#[derive(Debug, Parser)]
enum Role {
    /// Passes bytes on, or takes or gives them, without a look at any
    RawServe {
        /// What it listens on: "tcp", or the path of a Unix socket
        listen: String,
    },
    /// Sends bytes
    RawAppend(raw::End),
    /// Takes bytes
    RawRead(raw::End),
    /// Flight with arrow-flight's own encoder and decoder
    StockServe,
    /// Appends to it
    StockAppend(stock::End),
    /// Reads from it
    StockRead(stock::End),
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    Put,
    Get,
    Relay,
    Latency,
}

fn main() -> Result<(), Box<dyn Error>> {
    bowstring_allocator::keep_free_memory();
    match Role::parse() {
        Role::RawServe { listen } => raw::serve(&listen),
        Role::RawAppend(end) => raw::append(&end),
        Role::RawRead(end) => raw::read(&end),
        Role::StockServe => stock_server::serve(),
        Role::StockAppend(end) => stock::append(&end),
        Role::StockRead(end) => stock::read(&end),
    }
}
