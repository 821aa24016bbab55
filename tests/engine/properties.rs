//! What the engine promises, each as a property of every run of random operations.

mod attempts;
mod leases;
mod limits;
mod logs;
mod overflow;
mod retention;
mod shares;
mod starts;
mod waiting;
