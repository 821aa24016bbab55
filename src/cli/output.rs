//! Batches into a file or stdout.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvWriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::json::WriterBuilder as JsonWriterBuilder;
use arrow::json::writer::LineDelimited;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::error::CliError;
use super::format::{Format, Place};

type Sink = BufWriter<Box<dyn Write + Send>>;

/// An opened output. [`Output::finish`] writes what the format wants at its end; without it a Parquet or Arrow file
/// cannot be read.
pub(super) struct Output {
    name: String,
    /// What CSV gets at its end if nothing else came: its header.
    nothing: Option<RecordBatch>,
    writer: Writer,
}

enum Writer {
    Parquet(Box<ArrowWriter<Sink>>),
    Csv(Box<arrow::csv::Writer<Sink>>),
    Json(Box<arrow::json::Writer<Sink, LineDelimited>>),
    Arrow(Box<FileWriter<Sink>>),
    ArrowStream(Box<StreamWriter<Sink>>),
}

impl Output {
    /// Opens the output, overwriting what is there. `place.format` is not [`Format::Table`].
    pub(super) fn open(place: &Place, schema: &SchemaRef) -> Result<Self, CliError> {
        let inner: Box<dyn Write + Send> = match &place.path {
            None => Box::new(io::stdout()),
            Some(path) => Box::new(File::create(path).map_err(|reason| CliError::file(path, reason))?),
        };
        let sink = BufWriter::with_capacity(1 << 20, inner);
        let name = place.name("stdout");
        let writer = match place.format {
            Format::Parquet => parquet_writer(sink, schema).map_err(|error| failed(&name, "parquet", error)),
            Format::Csv => Ok(Writer::Csv(Box::new(CsvWriterBuilder::new().with_header(true).with_delimiter(place.delimiter).build(sink)))),
            // Nulls are written: a column of nothing but nulls is still there when the lines are read again.
            Format::Json | Format::Table => Ok(Writer::Json(Box::new(JsonWriterBuilder::new().with_explicit_nulls(true).build(sink)))),
            Format::Arrow => {
                FileWriter::try_new(sink, schema).map(|w| Writer::Arrow(Box::new(w))).map_err(|error| failed(&name, "arrow", error))
            }
            Format::ArrowStream => StreamWriter::try_new(sink, schema)
                .map(|w| Writer::ArrowStream(Box::new(w)))
                .map_err(|error| failed(&name, "arrow-stream", error)),
        };
        Ok(Self { writer: writer?, name, nothing: Some(RecordBatch::new_empty(schema.clone())) })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), CliError> {
        self.nothing = None;
        match &mut self.writer {
            Writer::Parquet(writer) => writer.write(batch).map_err(Failure::from),
            Writer::Csv(writer) => writer.write(batch).map_err(Failure::from),
            Writer::Json(writer) => writer.write(batch).map_err(Failure::from),
            Writer::Arrow(writer) => writer.write(batch).map_err(Failure::from),
            Writer::ArrowStream(writer) => writer.write(batch).map_err(Failure::from),
        }
        .map_err(|error| failed(&self.name, self.format(), error))
    }

    /// Hands what is written to the operating system, as far as the format allows: Parquet keeps its row group.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        match &mut self.writer {
            Writer::Parquet(writer) => writer.inner_mut().flush().map_err(Failure::Io),
            // The CSV writer flushes after every batch.
            Writer::Csv(_) => Ok(()),
            Writer::Json(writer) => writer.get_mut().flush().map_err(Failure::Io),
            Writer::Arrow(writer) => writer.flush().map_err(Failure::from),
            Writer::ArrowStream(writer) => writer.flush().map_err(Failure::from),
        }
        .map_err(|error| failed(&self.name, self.format(), error))
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        if let (Writer::Csv(_), Some(nothing)) = (&self.writer, self.nothing.take()) {
            self.write(&nothing)?;
        }
        match &mut self.writer {
            Writer::Parquet(writer) => writer.finish().map(drop).map_err(Failure::from),
            Writer::Csv(_) => Ok(()),
            Writer::Json(writer) => writer.finish().map_err(Failure::from),
            Writer::Arrow(writer) => writer.finish().map_err(Failure::from),
            Writer::ArrowStream(writer) => writer.finish().map_err(Failure::from),
        }
        .map_err(|error| failed(&self.name, self.format(), error))?;
        self.flush()
    }

    fn format(&self) -> &'static str {
        match &self.writer {
            Writer::Parquet(_) => "parquet",
            Writer::Csv(_) => "csv",
            Writer::Json(_) => "json",
            Writer::Arrow(_) => "arrow",
            Writer::ArrowStream(_) => "arrow-stream",
        }
    }
}

fn parquet_writer(sink: Sink, schema: &SchemaRef) -> Result<Writer, Failure> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    Ok(Writer::Parquet(Box::new(ArrowWriter::try_new(sink, schema.clone(), Some(properties))?)))
}

/// Why a batch could not be written: the disk, or what the format cannot hold.
enum Failure {
    Io(io::Error),
    Format(String),
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, error) => Self::Io(error),
            other => Self::Format(other.to_string()),
        }
    }
}

impl From<ParquetError> for Failure {
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(error) => Self::Io(*error),
                Err(other) => Self::Format(other.to_string()),
            },
            other => Self::Format(other.to_string()),
        }
    }
}

fn failed(name: &str, format: &'static str, failure: impl Into<Failure>) -> CliError {
    let hint = match format {
        "csv" => "CSV holds no lists, structs or maps: use json, parquet or arrow",
        "arrow" => "an Arrow file holds one dictionary per column: --format arrow-stream takes more",
        "parquet" => "some types have no place in Parquet: use arrow",
        _ => "",
    };
    match failure.into() {
        Failure::Io(reason) if reason.kind() == io::ErrorKind::BrokenPipe => CliError::OutputClosed,
        Failure::Io(reason) => CliError::File { name: name.to_owned(), reason },
        Failure::Format(reason) => CliError::Unwritable { name: name.to_owned(), format, reason, hint },
    }
}
