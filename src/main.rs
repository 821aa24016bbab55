//! The `bowstring` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: bowstring_allocator::MiMalloc = bowstring_allocator::MiMalloc;

fn main() -> ExitCode {
    bowstring_allocator::keep_free_memory();
    bowstring::cli::run(std::env::args_os())
}
