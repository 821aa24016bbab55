//! The `bowstring` command.

use std::process::ExitCode;

/// Recycles what batches are received into: with the system's allocator a relay spends its time in page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bowstring::cli::run(std::env::args_os())
}
