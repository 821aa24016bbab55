//! What the configuration names is read again when it changes.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Access;
use super::jwt::Jwt;
use super::tokens::Tokens;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells a file from what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

fn mark(path: &PathBuf) -> Option<Mark> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Mark { inode: metadata.ino(), bytes: metadata.size(), changed: (metadata.ctime(), metadata.ctime_nsec()) })
}

impl Access {
    /// Looks every second whether a file is another one; a bad one leaves everything as it is, and is logged.
    pub(in crate::server) async fn keep(self: Arc<Self>, stopping: CancellationToken) {
        let jwt_files: Vec<_> = self.jwt.read().iter().flat_map(|jwt| jwt.files().cloned().collect::<Vec<_>>()).collect();
        let token_files: Vec<_> = self.config.tokens.iter().cloned().collect();
        // What was read was so before: a change since is read once too often rather than not at all.
        let (mut tokens_seen, mut keys_seen) = (None, None);
        let mut interval = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = stopping.cancelled() => return,
            }
            let (access, tokens, keys) = (self.clone(), token_files.clone(), jwt_files.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let marks = |paths: &[PathBuf]| Some(paths.iter().map(mark).collect::<Vec<_>>());
                let (tokens_now, keys_now) = (marks(&tokens), marks(&keys));
                if tokens_now != tokens_seen {
                    access.read_tokens();
                }
                if keys_now != keys_seen {
                    access.read_keys();
                }
                (tokens_now, keys_now)
            });
            let Ok(seen) = looked.await else { return };
            (tokens_seen, keys_seen) = seen;
        }
    }

    fn read_tokens(&self) {
        let Some(path) = &self.config.tokens else { return };
        match Tokens::read(path) {
            Ok(tokens) => {
                tracing::info!(tokens = tokens.len(), path = %path.display(), "the file of tokens was read");
                *self.tokens.write() = Arc::new(tokens);
                self.changes.send_modify(|changes| *changes += 1);
            }
            Err(error) => tracing::error!(%error, "the file of tokens has changed and cannot be used; the tokens of before still count"),
        }
    }

    fn read_keys(&self) {
        let Some(config) = &self.config.jwt else { return };
        match Jwt::open(config) {
            Ok(jwt) => {
                *self.jwt.write() = Some(Arc::new(jwt));
                self.jwts.lock().clear();
            }
            Err(error) => tracing::error!(%error, "the JWTs' keys have changed and cannot be used; the keys of before still count"),
        }
    }
}
