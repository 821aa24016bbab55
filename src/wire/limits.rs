//! What one message may be at most, each bound with its reason. They are checked from headers, before anything is allocated by
//! them; `docs/security.md` has the same table for operators.
//!
//! How large a message is, the server's `message_bytes_max` says.

/// Most bytes of a message without its body (descriptor, header, metadata, and bodies that are not the last
/// field): all of it is taken in before room is reserved. A schema of 65,536 columns fits.
pub const HEAD_BYTES_MAX: u64 = 16 << 20;

/// Deepest nesting of a flatbuffer: its verifier recurses. Arrow's metadata nests two tables for each level of a schema.
pub(super) const FLATBUFFER_DEPTH_MAX: usize = 2 * DEPTH_MAX;
/// Most tables of a flatbuffer: what a schema of [`FIELDS_MAX`] fields has, with a few of metadata each.
pub(super) const FLATBUFFER_TABLES_MAX: usize = 1_000_000;
/// How much larger a header may become when what it shares is counted each time: bounds the time to verify it.
/// Arrow's own headers stay below 3.
pub(super) const APPARENT_RATIO_MAX: usize = 8;

/// Most rows of a batch: what Arrow's Java and Spark can hold, and what bounds a batch of null columns, which
/// has no bytes at all.
pub const ROWS_MAX: i64 = i32::MAX as i64;
/// Most values of one array inside a batch, for instance of a list's items: as many as the largest message has
/// bits.
pub(super) const VALUES_MAX: i64 = 8 << 30;

/// Most fields of a schema, at any depth: each costs readers and writers a few hundred bytes.
pub const FIELDS_MAX: usize = 65_536;
/// Deepest nesting of a schema; Arrow's own readers recurse.
pub const DEPTH_MAX: usize = 64;
/// Longest name of a field, in bytes: it stands in errors, in logs and on screens.
pub const NAME_BYTES_MAX: usize = 64 << 10;
/// Most bytes of all names and metadata of a schema. A flatbuffer may say a text once and use it in many fields, and every
/// reader has it as often as it is used.
pub const TEXT_BYTES_MAX: u64 = HEAD_BYTES_MAX;

/// Most dictionary messages that full validation takes of a schema with dictionaries of dictionaries: when one is another, all
/// are decoded again, for that is what readers do.
pub const NESTED_MESSAGES_MAX: usize = 4096;

/// Most bytes that a compressed body may become, unless the server's `decompressed_bytes_max` says less: as much as the
/// largest message.
pub const DECOMPRESSED_BYTES_MAX: u64 = 1 << 30;
/// LZ4 cannot compress better than this.
pub(super) const LZ4_RATIO_MAX: u64 = 256;
/// Nor can ZSTD: a block of 128 KiB has at least a header of 3 bytes.
pub(super) const ZSTD_RATIO_MAX: u64 = 1 << 16;
