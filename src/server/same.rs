//! Whether a stream that is there already is what was asked for.

use crate::engine::StreamOptions;

fn wait_text(options: &StreamOptions) -> String {
    options.max_wait.map_or_else(|| "0".to_owned(), |time| time.as_millis().to_string())
}

/// The first option that differs, with both values.
pub(super) fn difference(have: &StreamOptions, asked: &StreamOptions) -> Option<String> {
    let differs = |name: &str, have: String, asked: String| (have != asked).then(|| format!("{name} is {have}, not {asked}"));
    let number = |name: &str, have: u64, asked: u64| differs(name, have.to_string(), asked.to_string());
    number("partitions", have.partitions.into(), asked.partitions.into())
        .or_else(|| number("max_buffered_batches", have.limits.max_buffered_batches, asked.limits.max_buffered_batches))
        .or_else(|| number("max_buffered_bytes", have.limits.max_buffered_bytes, asked.limits.max_buffered_bytes))
        .or_else(|| number("max_spool_bytes", have.limits.max_spool_bytes, asked.limits.max_spool_bytes))
        .or_else(|| number("max_disk_bytes", have.limits.max_disk_bytes, asked.limits.max_disk_bytes))
        .or_else(|| differs("retain_ms", have.retention.time.as_millis().to_string(), asked.retention.time.as_millis().to_string()))
        .or_else(|| number("retain_bytes", have.retention.bytes, asked.retention.bytes))
        .or_else(|| differs("max_wait_ms", wait_text(have), wait_text(asked)))
        .or_else(|| number("resume_percent", have.resume_percent.into(), asked.resume_percent.into()))
        .or_else(|| differs("visibility", format!("{:?}", have.visibility), format!("{:?}", asked.visibility)))
        .or_else(|| differs("full_policy", format!("{:?}", have.full_policy), format!("{:?}", asked.full_policy)))
        .or_else(|| differs("schema_policy", have.schema_policy.as_str().to_owned(), asked.schema_policy.as_str().to_owned()))
}
