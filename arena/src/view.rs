//! A view: another process's arena, to be looked at.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

/// An arena that another process writes.
pub struct View(MmapRaw);

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl View {
    /// Opens the arena behind a descriptor, which is not needed after that.
    ///
    /// # Errors
    /// `InvalidInput` if it could be made smaller, or is none; what the system says; `Unsupported` on systems without
    /// sealed memory files.
    pub fn open(file: BorrowedFd<'_>) -> io::Result<Arc<Self>> {
        let bytes = sealed_bytes(file)?;
        Ok(Arc::new(Self(MmapOptions::new().len(bytes).map_raw_read_only(&file)?)))
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Bytes of it, which the writer must leave alone as long as anybody looks at them; none if they lie beyond its end.
    #[must_use]
    pub fn show(self: &Arc<Self>, start: usize, bytes: usize) -> Option<Shown> {
        let end = start.checked_add(bytes)?;
        (end <= self.bytes()).then(|| Shown { view: self.clone(), start, bytes })
    }
}

/// A range of a view.
#[derive(Debug, Clone)]
pub struct Shown {
    view: Arc<View>,
    start: usize,
    bytes: usize,
}

impl AsRef<[u8]> for Shown {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range lies in the mapping, which lives as long as the view that this holds, and whose file cannot
        // shrink. Nobody writes it meanwhile (see the crate's docs).
        unsafe { std::slice::from_raw_parts(self.view.0.as_ptr().add(self.start), self.bytes) }
    }
}

#[cfg(target_os = "linux")]
fn sealed_bytes(file: BorrowedFd<'_>) -> io::Result<usize> {
    use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
    let is_sealed = fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    let bytes = usize::try_from(fstat(file)?.st_size).unwrap_or(0);
    if is_sealed && bytes > 0 { Ok(bytes) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(not(target_os = "linux"))]
fn sealed_bytes(_: BorrowedFd<'_>) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
