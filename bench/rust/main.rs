//! `bowstring-bench`: what `make bench` compares bowstring with, in Rust: raw sockets, arrow-flight as it comes, plain files; and
//! producers that wait for each answer. And what the guard, quotas, tokens and queries cost, alone.
//! Servers print their address first. Ends say `ready`, wait for a line, work, and print a report, as `bowstring bench`'s
//! own ends do. Not part of what is installed: it needs the feature `spark`, which is not among the default ones.

mod confirm;
mod disk;
mod guard;
mod neighbour;
mod query;
mod raw;
mod report;
mod stock;
mod stock_server;

use std::error::Error;

use clap::{Parser, ValueEnum};

#[global_allocator]
static ALLOCATOR: bowstring_allocator::MiMalloc = bowstring_allocator::MiMalloc;

/// What is read alone was made before, and no more of it than this, as in `bowstring bench`: it then comes again.
const MADE_BYTES_MAX: usize = 512 << 20;

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
    /// Writes files as a durable stream's log does
    DiskWrite(disk::Write),
    /// Makes one write after the other durable
    DiskSync(disk::Sync),
    /// Appends or commits, each after the answer to the one before
    Confirm(confirm::End),
    /// What looking at a message costs, and validating it in full
    Guard,
    /// What a principal keeps beside a noisy one, and what a call with a token costs
    Neighbour,
    /// What a subscription's query saves and costs
    Query,
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
        Role::DiskWrite(write) => disk::write(&write),
        Role::DiskSync(sync) => disk::sync_each(&sync),
        Role::Confirm(end) => confirm::run(&end),
        Role::Guard => guard::run(),
        Role::Neighbour => neighbour::run(),
        Role::Query => query::run(),
    }
}
