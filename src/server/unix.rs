//! The Unix socket beside TCP: where its file is, whose it is, and how it goes.

use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use super::config::UnixSocket;

/// The longest path that a socket's address holds, its closing zero aside.
const PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// As much of the server's id as tells its file from others; macOS's temporary folder has a long path already.
const FILE_NAME_CHARS: usize = 16;
/// A dead server's file in the private folder goes after this long: younger ones may be about to be listened on.
const DEAD_AFTER: Duration = Duration::from_secs(60);
/// Files that are looked at for dead ones, so that a start never takes long.
const LOOKED_AT_MAX: usize = 256;

/// Why a Unix socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum UnixError {
    /// A path that no socket's address holds.
    #[error("the path has {bytes} bytes, more than the {PATH_BYTES_MAX} that the system takes")]
    PathTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A path that clients cannot be told.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// A server that lives has it.
    #[error("another server listens there")]
    InUse,
    /// A file that is not ours to remove.
    #[error("there is a file that is no socket")]
    NoSocket,
    /// A folder where others could put a socket of theirs.
    #[error("the folder {} is not this user's alone", folder.display())]
    NotPrivate {
        /// The folder.
        folder: PathBuf,
    },
    /// The system's answer.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A socket's file; removed with this, unless another server has put its own there since.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    mark: Mark,
}

/// Device, inode and time of making: inodes are used again.
type Mark = (u64, u64, i64, i64);

fn mark(metadata: &Metadata) -> Mark {
    (metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

impl SocketFile {
    fn new(path: PathBuf) -> io::Result<Self> {
        let mark = mark(&fs::symlink_metadata(&path)?);
        Ok(Self { path, mark })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| mark(&metadata) == self.mark)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the Unix socket's file could not be removed");
        }
    }
}

/// Listens as the configuration says. Only a path that was named can fail: without one of its own, the server has no
/// Unix socket, and clients come by TCP.
///
/// # Errors
/// The path that was named, and why it cannot be listened on.
pub(super) async fn bind(config: &UnixSocket, server_id: &str) -> Result<Option<(UnixListener, SocketFile)>, (PathBuf, UnixError)> {
    match config {
        UnixSocket::Off => Ok(None),
        UnixSocket::At(path) => listen(path).await.map(Some).map_err(|error| (path.clone(), error)),
        UnixSocket::Auto => Ok(listen_in_private(server_id).await),
    }
}

async fn listen_in_private(server_id: &str) -> Option<(UnixListener, SocketFile)> {
    for folder in private_folders() {
        let listening = match make_private(&folder) {
            Ok(()) => {
                remove_dead(&folder).await;
                listen(&folder.join(format!("{:.FILE_NAME_CHARS$}.sock", server_id))).await
            }
            Err(error) => Err(error),
        };
        match listening {
            Ok(listening) => return Some(listening),
            Err(error) => tracing::debug!(folder = %folder.display(), %error, "no Unix socket there"),
        }
    }
    tracing::warn!("no folder for a Unix socket: clients on this host use TCP; name a path, or turn it off");
    None
}

/// The user's folder for such files, or else the one for temporary files.
fn private_folders() -> impl Iterator<Item = PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let user = rustix::process::geteuid().as_raw();
    let temporary = std::path::absolute(std::env::temp_dir()).ok();
    let named = move |folder: PathBuf| folder.join(format!("bowstring-{user}"));
    runtime.into_iter().chain(temporary).map(named)
}

/// Makes the folder, or checks that one that is there is a folder of this user's and nobody else's.
fn make_private(folder: &Path) -> Result<(), UnixError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let metadata = fs::symlink_metadata(folder)?;
    let private = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0;
    if private { Ok(()) } else { Err(UnixError::NotPrivate { folder: folder.to_path_buf() }) }
}

/// Removes what servers left behind that were killed.
async fn remove_dead(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().take(LOOKED_AT_MAX).flatten() {
        let old = |metadata: Metadata| {
            metadata.file_type().is_socket() && metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > DEAD_AFTER))
        };
        let path = entry.path();
        if entry.metadata().is_ok_and(old) && matches!(is_alive(&path).await, Ok(false)) {
            // Another server may have been faster.
            drop(fs::remove_file(&path));
        }
    }
}

/// Listens at a path, which a dead server's file does not keep from it.
pub(super) async fn listen(path: &Path) -> Result<(UnixListener, SocketFile), UnixError> {
    let path = std::path::absolute(path)?;
    if path.to_str().is_none() {
        return Err(UnixError::NotUtf8);
    }
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > PATH_BYTES_MAX {
        return Err(UnixError::PathTooLong { bytes });
    }
    let listener = match UnixListener::bind(&path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            make_room(&path).await?;
            UnixListener::bind(&path)?
        }
        bound => bound?,
    };
    Ok((listener, SocketFile::new(path)?))
}

async fn make_room(path: &Path) -> Result<(), UnixError> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(UnixError::NoSocket);
    }
    if is_alive(path).await? {
        return Err(UnixError::InUse);
    }
    tracing::info!(path = %path.display(), "a dead server's Unix socket is replaced");
    Ok(fs::remove_file(path)?)
}

/// Whether somebody listens. A server that is too busy to be connected to at once does.
async fn is_alive(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path).await {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Ok(false),
            ErrorKind::WouldBlock => Ok(true),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    /// A path of so many bytes.
    fn path_of(folder: &Path, bytes: usize) -> PathBuf {
        folder.join("x".repeat(bytes - folder.as_os_str().as_bytes().len() - 1))
    }

    #[tokio::test]
    async fn the_longest_path_is_listened_on_and_one_that_is_longer_is_refused_with_its_length() {
        let folder = folder();
        listen(&path_of(folder.path(), PATH_BYTES_MAX)).await.expect("fits");
        let error = listen(&path_of(folder.path(), PATH_BYTES_MAX + 1)).await.expect_err("does not fit");
        assert!(error.to_string().contains(&format!("{} bytes", PATH_BYTES_MAX + 1)), "{error}");
    }

    #[tokio::test]
    async fn a_living_servers_socket_is_refused_a_dead_ones_replaced_and_other_files_stay() {
        let folder = folder();
        let path = folder.path().join("s");
        let (living, file) = listen(&path).await.expect("a free path");
        assert!(matches!(listen(&path).await, Err(UnixError::InUse)));
        drop(living);
        std::mem::forget(file);
        let (_living, file) = listen(&path).await.expect("nobody listens any more");
        drop(file);
        assert!(!path.exists());
        fs::write(&path, "text").expect("writes");
        assert!(matches!(listen(&path).await, Err(UnixError::NoSocket)));
        assert_eq!(fs::read_to_string(&path).expect("is there"), "text");
    }

    #[tokio::test]
    async fn a_file_that_another_server_has_put_there_since_is_not_removed() {
        let folder = folder();
        let path = folder.path().join("s");
        let (_older, file) = listen(&path).await.expect("a free path");
        fs::rename(&path, folder.path().join("away")).expect("is ours");
        let (_newer, newer_file) = listen(&path).await.expect("a free path");
        drop(file);
        assert!(path.exists());
        drop(newer_file);
        assert!(!path.exists());
    }

    #[test]
    fn a_private_folder_is_the_users_alone() {
        let folder = folder();
        let inner = folder.path().join("inner");
        make_private(&inner).expect("is made");
        make_private(&inner).expect("is there");
        assert_eq!(fs::metadata(&inner).expect("is there").mode() & 0o777, 0o700);
        fs::set_permissions(&inner, Permissions::from_mode(0o755)).expect("is ours");
        assert!(matches!(make_private(&inner), Err(UnixError::NotPrivate { .. })));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&inner, &link).expect("links");
        assert!(matches!(make_private(&link), Err(UnixError::NotPrivate { .. })));
    }

    #[tokio::test]
    async fn files_of_dead_servers_go_and_those_of_living_and_young_ones_stay() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let old = std::time::UNIX_EPOCH + Duration::from_secs(1);
        let living = UnixListener::bind(at("living")).expect("binds");
        for (name, age) in [("living", Some(old)), ("dead", Some(old)), ("young", None)] {
            if name != "living" {
                drop(UnixListener::bind(at(name)).expect("binds"));
            }
            if let Some(age) = age {
                let times = rustix::fs::Timestamps { last_access: timespec(age), last_modification: timespec(age) };
                rustix::fs::utimensat(rustix::fs::CWD, at(name), &times, rustix::fs::AtFlags::empty()).expect("is ours");
            }
        }
        remove_dead(folder.path()).await;
        assert_eq!(["living", "dead", "young"].map(|name| at(name).exists()), [true, false, true]);
        drop(living);
    }

    fn timespec(at: std::time::SystemTime) -> rustix::fs::Timespec {
        let since = at.duration_since(std::time::UNIX_EPOCH).expect("after it");
        rustix::fs::Timespec { tv_sec: i64::try_from(since.as_secs()).expect("small"), tv_nsec: 0 }
    }
}
