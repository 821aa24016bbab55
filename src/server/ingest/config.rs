//! What is declared of a stream whose rows come over HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Rows that one stream takes over HTTP, in the format that they are sent in. The stream's own schema is what they become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestConfig {
    /// How rows are written.
    pub format: IngestFormat,
    /// The stream of the bad rows, made at the first of them. None: a request with a bad row is refused whole.
    #[serde(default)]
    pub rejected_to: Option<String>,
    /// Other names that columns at the top have in rows.
    #[serde(default)]
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Text is taken for a column of numbers, and numbers and booleans for one of text. Default: such a row is bad.
    #[serde(default)]
    pub lenient: bool,
    /// A row with a field that is neither a column nor an alias is bad. Default: the field is ignored.
    #[serde(default)]
    pub refuse_unknown: bool,
    /// The partition of all rows. None: requests take turns.
    #[serde(default)]
    pub partition: Option<u32>,
    /// Of Avro: the files of the schemas that rows were written with.
    #[serde(default)]
    pub writer_schema_file: Option<WriterSchemaFiles>,
    /// Of Protobuf: the file of the descriptors, as `protoc --include_imports --descriptor_set_out` writes it.
    #[serde(default)]
    pub descriptors_file: Option<PathBuf>,
    /// Of Protobuf: the message's full name.
    #[serde(default)]
    pub message: Option<String>,
    /// Of Protobuf: rows have the header of Confluent's serializers.
    #[serde(default)]
    pub confluent: bool,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IngestFormat {
    /// JSON objects.
    Json,
    /// Avro, in binary, without a file's header.
    Avro,
    /// Protobuf messages.
    Protobuf,
}

impl IngestFormat {
    /// As the configuration writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
        }
    }
}

/// The files of the schemas that rows in Avro were written with, and so how a row says which is its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WriterSchemaFiles {
    /// All rows are of this one, and have no header.
    One(PathBuf),
    /// Rows have the header of Avro's single-object encoding.
    ByFingerprint(Vec<PathBuf>),
    /// Rows have the header of Confluent's serializers, with the schema's number in the registry. Keys of tables are text.
    ByNumber(BTreeMap<String, PathBuf>),
}

/// What is declared of a stream and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ingest of stream {stream:?} cannot be used: {reason}")]
pub struct IngestError {
    /// The stream.
    pub stream: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl IngestConfig {
    /// What is declared of each stream, as a JSON object.
    ///
    /// # Errors
    /// What is wrong with the text, and where.
    pub fn from_json(text: &str) -> Result<BTreeMap<String, Self>, String> {
        let mut json = serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(&mut json).map_err(|error| format!("ingest: {error}"))
    }
}
