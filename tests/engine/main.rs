//! The engine against a plain model: random operations, both sides of every limit, every error.

mod allocations;
mod coverage;
mod durable;
mod errors;
mod lag;
mod leased;
mod limits;
mod model;
mod operations;
mod overflow;
mod pool;
mod properties;
mod regressions;
mod reverse_path;
mod shared;
mod spans;
mod starts;
mod story;
mod team;
mod world;
