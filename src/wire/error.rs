//! What is wrong with bytes or texts that came in.

use crate::engine::{Code, NameError, SchemaPolicy};

/// Bytes or a text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are no valid gRPC, Flight or Arrow IPC message.
    #[error("malformed message: {what}; send what an Arrow Flight client sends")]
    Malformed {
        /// What is wrong.
        what: String,
    },
    /// A message is larger than the receiver takes.
    #[error(
        "a message of {bytes} bytes is larger than the {limit} bytes that are allowed; send smaller batches, or raise message_bytes_max at the server"
    )]
    MessageTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// What comes with a body is larger than the receiver takes.
    #[error(
        "the descriptor, schema and metadata of a message have {bytes} bytes, more than the {limit} bytes that are allowed; send fewer columns or less metadata"
    )]
    HeadTooLarge {
        /// Their size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A compressed body would become larger than the receiver takes.
    #[error("a body becomes {bytes} bytes when it is decompressed, more than the {limit} bytes that are allowed; send smaller batches")]
    DecompressedTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The batches' schema is not the stream's, which takes no other.
    #[error(
        "the schema does not fit the stream, whose schema_policy is strict: {difference}; send batches of the stream's schema, or use another stream: one whose schema_policy is additive takes new columns, widening wider types too"
    )]
    SchemaMismatch {
        /// The first difference.
        difference: String,
    },
    /// The batches' schema is another one than the stream can take beside those that it has.
    #[error(
        "the schema does not fit the stream, whose schema_policy is {}: {differences}; send batches that fit (docs/schemas.md says what does), or use another stream",
        policy.as_str()
    )]
    SchemaIncompatible {
        /// The stream's.
        policy: SchemaPolicy,
        /// The columns, and what is wrong with each.
        differences: String,
    },
    /// The stream has too many versions of its schema.
    #[error(
        "the stream has {versions} versions of its schema, with this one of {bytes} bytes, and takes no more than {versions_max} of {bytes_max} bytes; send batches of one that it has, or use another stream"
    )]
    TooManySchemas {
        /// How many it has.
        versions: usize,
        /// Bytes of their messages, with the one that is too much.
        bytes: usize,
        /// Most versions.
        versions_max: usize,
        /// Most bytes.
        bytes_max: usize,
    },
    /// A descriptor, ticket or JSON command that cannot be used.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// What it is.
        what: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A name that cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl WireError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } => Code::MalformedMessage,
            Self::MessageTooLarge { .. } | Self::HeadTooLarge { .. } | Self::DecompressedTooLarge { .. } => Code::MessageTooLarge,
            Self::SchemaMismatch { .. } | Self::SchemaIncompatible { .. } | Self::TooManySchemas { .. } => Code::SchemaMismatch,
            Self::Invalid { .. } | Self::Name(_) => Code::InvalidArgument,
        }
    }

    pub(crate) fn malformed(what: impl std::fmt::Display) -> Self {
        Self::Malformed { what: what.to_string() }
    }

    /// The same with what it is about in front, if the message is malformed: an array, a message.
    #[must_use]
    pub(crate) fn within(self, place: impl std::fmt::Display) -> Self {
        match self {
            Self::Malformed { what } => Self::Malformed { what: format!("{place}: {what}") },
            other => other,
        }
    }

    /// The first message of a `DoPut` names no stream.
    #[must_use]
    pub fn missing_descriptor() -> Self {
        Self::Invalid {
            what: "descriptor",
            reason: "the first message of a DoPut has none; set its path to [stream] or [stream, partition]".to_owned(),
        }
    }

    /// The first message of a `DoPut` has no schema.
    #[must_use]
    pub fn missing_schema() -> Self {
        Self::malformed("the first message of a DoPut is no schema")
    }

    /// The connection's bytes end inside a message.
    #[must_use]
    pub fn cut_short() -> Self {
        Self::malformed("the bytes end inside a message")
    }
}
