//! Spark's side, once for the wheel and the JVM connector: its types as Arrow's, and which partition a row goes to.

mod hash;
mod names;
pub mod routing;
pub mod types;
