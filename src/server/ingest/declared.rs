//! A stream that takes rows: what is declared of it, with its files read; and the decoder, once the stream has a schema.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::config::{IngestConfig, IngestError, IngestFormat, WriterSchemaFiles};
use crate::engine::StreamName;
use crate::formats::{Format, Framing, Names, Protobuf, RowDecoder, Rules, Writers};
use crate::server::cell::StreamCell;
use crate::server::error::Error;

/// Largest file of schemas or descriptors: they are kept in memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What is declared of a stream.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) stream: StreamName,
    pub(super) rejected_to: Option<StreamName>,
    pub(super) partition: Option<u32>,
    pub(super) of: IngestFormat,
    format: Format,
    names: Names,
    rules: Rules,
    /// Names that columns have altogether beside their own.
    pub(super) aliases: u64,
    /// The newest decoder, and the schema message that it was made for.
    made: Mutex<Option<(Bytes, Arc<RowDecoder>)>>,
}

impl Declared {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// [`IngestError`] names the stream and what to change.
    pub(super) fn open(stream: &str, config: &IngestConfig) -> Result<Self, IngestError> {
        Self::read(stream, config).map_err(|reason| IngestError { stream: stream.to_owned(), reason })
    }

    fn read(stream: &str, config: &IngestConfig) -> Result<Self, String> {
        let name = |text: &str| StreamName::new(text).map_err(|error| error.to_string());
        let rejected_to = config.rejected_to.as_deref().map(name).transpose()?;
        if config.rejected_to.as_deref() == Some(stream) {
            return Err("rejected_to is the stream itself; name another one for the bad rows".to_owned());
        }
        Ok(Self {
            stream: name(stream)?,
            rejected_to,
            partition: config.partition,
            of: config.format,
            format: format(config)?,
            names: Names::new(config.aliases.clone()),
            rules: Rules { lenient: config.lenient, refuse_unknown: config.refuse_unknown, ..Rules::default() },
            aliases: config.aliases.values().map(|names| names.len() as u64).sum(),
            made: Mutex::default(),
        })
    }

    /// The decoder to the stream's schema as it is now.
    ///
    /// # Errors
    /// `schema_mismatch`'s sibling `invalid_argument` if the stream has no schema, or rows cannot be decoded to it.
    pub(super) fn decoder(&self, cell: &StreamCell) -> Result<Arc<RowDecoder>, Error> {
        let unusable = |reason: String| Error::InvalidArgument { field: "stream", reason };
        let missing = || unusable(format!("{} has no schema yet; create it with one, or append a batch by another way first", self.stream));
        let schema = cell.schema().ok_or_else(missing)?;
        if let Some((header, decoder)) = &*self.made.lock()
            && header == schema.header()
        {
            return Ok(decoder.clone());
        }
        let made = RowDecoder::new(self.format.clone(), schema.arrow().clone(), &self.names, self.rules);
        let misfit =
            |error| unusable(format!("rows cannot be decoded to the schema of {}: {error}; change what ingest declares", self.stream));
        let decoder = Arc::new(made.map_err(misfit)?);
        *self.made.lock() = Some((schema.header().clone(), decoder.clone()));
        Ok(decoder)
    }
}

fn format(config: &IngestConfig) -> Result<Format, String> {
    let of_avro = config.writer_schema_file.is_some();
    let of_protobuf = config.descriptors_file.is_some() || config.message.is_some() || config.confluent;
    match config.format {
        IngestFormat::Avro | IngestFormat::Json if of_protobuf => {
            Err("descriptors_file, message and confluent are of format protobuf; leave them out".to_owned())
        }
        IngestFormat::Json | IngestFormat::Protobuf if of_avro => Err("writer_schema_file is of format avro; leave it out".to_owned()),
        IngestFormat::Json => Ok(Format::Json),
        IngestFormat::Avro => {
            let missing = "format avro needs writer_schema_file: the schema that rows were written with";
            Ok(Format::Avro(writers(config.writer_schema_file.as_ref().ok_or(missing)?)?))
        }
        IngestFormat::Protobuf => match (&config.descriptors_file, &config.message) {
            (Some(path), Some(message)) => Ok(Format::Protobuf(Protobuf {
                descriptors: file(path)?,
                message: message.clone(),
                framing: if config.confluent { Framing::Confluent } else { Framing::None },
            })),
            _ => Err("format protobuf needs descriptors_file and message, the full name of the rows' type".to_owned()),
        },
    }
}

fn writers(files: &WriterSchemaFiles) -> Result<Writers, String> {
    match files {
        WriterSchemaFiles::One(path) => Ok(Writers::One(text(path)?)),
        WriterSchemaFiles::ByFingerprint(paths) if paths.is_empty() => Err("writer_schema_file has no file; name one".to_owned()),
        WriterSchemaFiles::ByFingerprint(paths) => {
            Ok(Writers::ByFingerprint(paths.iter().map(|path| text(path)).collect::<Result<_, _>>()?))
        }
        WriterSchemaFiles::ByNumber(paths) => {
            let one = |(number, path): (&String, &std::path::PathBuf)| {
                let wrong = |_| format!("writer_schema_file has the key {number:?}; keys are the numbers that the registry gave");
                Ok((number.parse::<u32>().map_err(wrong)?, text(path)?))
            };
            Ok(Writers::ById(paths.iter().map(one).collect::<Result<BTreeMap<_, _>, String>>()?))
        }
    }
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let bytes = fs::metadata(path).map_err(wrong)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("{} has {bytes} bytes; at most {FILE_BYTES_MAX} are taken", path.display()));
    }
    fs::read(path).map_err(wrong)
}

fn text(path: &Path) -> Result<String, String> {
    String::from_utf8(file(path)?).map_err(|_| format!("{} is no text in UTF-8; a schema is JSON", path.display()))
}
