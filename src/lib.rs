//! bowstring: the bridge between Spark Structured Streaming and everything that is not Spark.

pub mod engine;
