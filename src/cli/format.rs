//! File formats: which there are, and how a path names one.

use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::error::CliError;

/// A file format that batches are read from and written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table on the terminal (get only)
    Table,
    /// Apache Parquet (.parquet, .pq)
    Parquet,
    /// Comma-separated values with a header line (.csv; .tsv with tabs)
    Csv,
    /// One JSON object per line (.jsonl, .ndjson, .json)
    Json,
    /// Arrow IPC file, also known as Feather version 2 (.arrow, .feather, .ipc)
    Arrow,
    /// Arrow IPC stream (.arrows)
    ArrowStream,
}

impl Format {
    /// Whether what is written so far can be read, though the file has no end yet.
    pub(super) fn is_readable_unfinished(self) -> bool {
        match self {
            Self::Table | Self::Csv | Self::Json | Self::ArrowStream => true,
            Self::Parquet | Self::Arrow => false,
        }
    }
}

/// A file, or the terminal's end of a pipe, with the format of what flows through.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// None is stdin or stdout.
    pub(super) path: Option<PathBuf>,
    pub(super) format: Format,
    /// Of CSV.
    pub(super) delimiter: u8,
}

impl Place {
    /// The place that an argument names ("-" is stdin or stdout), with the format asked for, or the one its extension
    /// says, or else `otherwise`.
    pub(super) fn new(
        path: Option<&Path>,
        format: Option<Format>,
        delimiter: Option<char>,
        otherwise: Option<Format>,
    ) -> Result<Self, CliError> {
        let path = path.filter(|path| path.as_os_str() != "-");
        let extension = path.and_then(Path::extension).map(|extension| extension.to_string_lossy().to_lowercase());
        let Some(format) = format.or_else(|| of_extension(extension.as_deref()?)).or(otherwise) else {
            return Err(CliError::FormatUnknown { name: path.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string()) });
        };
        let separator = delimiter.unwrap_or(if extension.as_deref() == Some("tsv") { '\t' } else { ',' });
        let delimiter = u8::try_from(separator).ok().filter(u8::is_ascii);
        let delimiter = delimiter.ok_or_else(|| CliError::usage("a CSV delimiter is one ASCII character, for instance ';'"))?;
        Ok(Self { path: path.map(Path::to_path_buf), format, delimiter })
    }

    /// Whether the file can be read at all: better known before a coordinator is asked for.
    pub(super) fn check_readable(&self) -> Result<(), CliError> {
        match &self.path {
            None => Ok(()),
            Some(path) if path.is_dir() => Err(CliError::file(path, io::ErrorKind::IsADirectory.into())),
            Some(path) => std::fs::metadata(path).map(drop).map_err(|reason| CliError::file(path, reason)),
        }
    }

    /// What to call it in texts.
    pub(super) fn name(&self, otherwise: &str) -> String {
        self.path.as_ref().map_or_else(|| otherwise.to_owned(), |path| path.display().to_string())
    }
}

fn of_extension(extension: &str) -> Option<Format> {
    match extension {
        "parquet" | "pq" => Some(Format::Parquet),
        "csv" | "tsv" => Some(Format::Csv),
        "json" | "jsonl" | "ndjson" => Some(Format::Json),
        "arrow" | "feather" | "ipc" => Some(Format::Arrow),
        "arrows" => Some(Format::ArrowStream),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    fn format(path: &str, asked: Option<Format>) -> Option<Format> {
        Place::new(Some(Path::new(path)), asked, None, None).ok().map(|place| place.format)
    }

    #[test]
    fn a_format_asked_for_wins_over_the_extension() {
        assert_eq!(format("a/flights.PARQUET", None), Some(Format::Parquet));
        assert_eq!(format("flights.parquet", Some(Format::Csv)), Some(Format::Csv));
        assert_eq!(format("flights.xlsx", None), None);
        assert_eq!(format("-", None), None);
        assert_eq!(format("-", Some(Format::Json)), Some(Format::Json));
    }

    #[test]
    fn tab_separated_files_need_no_delimiter() {
        assert_eq!(Place::new(Some(Path::new("a.tsv")), None, None, None).unwrap().delimiter, b'\t');
        assert!(Place::new(Some(Path::new("a.csv")), None, Some('→'), None).is_err());
    }
}
