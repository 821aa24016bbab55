//! A .tar.gz, made in memory and written at once.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::error::CliError;

/// Files in a folder of the archive's name.
pub(super) struct Archive {
    folder: String,
    seconds: u64,
    tar: tar::Builder<GzEncoder<Vec<u8>>>,
}

impl Archive {
    pub(super) fn new(folder: String, time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { folder, seconds, tar: tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default())) }
    }

    pub(super) fn add(&mut self, file: &str, bytes: &[u8]) -> Result<(), CliError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        self.tar.append_data(&mut header, format!("{}/{file}", self.folder), bytes).map_err(failed)
    }

    /// Writes it to a file that was not there, for its owner alone.
    pub(super) fn write(self, path: &Path) -> Result<(), CliError> {
        let bytes = self.tar.into_inner().and_then(GzEncoder::finish).map_err(failed)?;
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        created.and_then(|mut file| file.write_all(&bytes)).map_err(|reason| CliError::file(path, reason))
    }
}

fn failed(reason: io::Error) -> CliError {
    CliError::Io { doing: "packing", reason }
}
