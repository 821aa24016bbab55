//! `--compression`: how a producer of the command line compresses.

use clap::ValueEnum;

use crate::client::Compression;

/// A codec, or none, or whichever pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CompressionArg {
    None,
    /// LZ4 while the way there is slower than compression
    Auto,
    Lz4,
    Zstd,
}

impl CompressionArg {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Auto => "auto",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl From<CompressionArg> for Compression {
    fn from(arg: CompressionArg) -> Self {
        match arg {
            CompressionArg::None => Self::None,
            CompressionArg::Auto => Self::Auto,
            CompressionArg::Lz4 => Self::Lz4,
            CompressionArg::Zstd => Self::Zstd,
        }
    }
}
