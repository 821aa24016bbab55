//! Writes and reads that fail.
