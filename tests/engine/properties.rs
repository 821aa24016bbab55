//! What the engine promises, each as a property of every run of random operations.

mod attempts;
mod leases;
mod limits;
mod logs;
mod retention;
mod starts;
mod waiting;
