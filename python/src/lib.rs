//! The native half of the Python package: converts, releases the GIL, calls the client's or server's verb,
//! converts back. No logic.

mod arrow_ffi;
mod client;
mod consumer;
mod describe;
mod errors;
mod flow;
mod formats;
mod producer;
mod server;
mod shared;
mod small;
mod spark;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: bowstring_allocator::MiMalloc = bowstring_allocator::MiMalloc;

/// Runs the command line `bowstring` with these arguments (the first is the program's name); returns its exit code.
#[pyfunction]
fn run_cli(py: Python<'_>, arguments: Vec<std::ffi::OsString>) -> u8 {
    py.detach(|| bowstring::cli::exit_code(arguments))
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::arrow_ffi::{Batches, SchemaCapsule};
    #[pymodule_export]
    use super::client::Client;
    #[pymodule_export]
    use super::consumer::Consumer;
    #[pymodule_export]
    use super::flow::{FlowState, Rows};
    #[pymodule_export]
    use super::formats::RowDecoder;
    #[pymodule_export]
    use super::producer::{EpochWriter, Producer};
    #[pymodule_export]
    use super::run_cli;
    #[pymodule_export]
    use super::server::Server;
    #[pymodule_export]
    use super::spark::{Routing, arrow_schema, spark_schema};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        bowstring_allocator::keep_free_memory();
        Ok(())
    }
}
