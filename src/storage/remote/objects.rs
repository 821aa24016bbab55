//! Objects by name: made, read, listed and removed, again and again until the store has answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use parking_lot::Mutex;

use super::place::Place;
use crate::storage::StorageError;

/// The first pause after a failure; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// Objects that are removed in one try: some stores take them one by one.
const REMOVED_TOGETHER: usize = 500;
/// How long one try may take. The store's own limits are shorter, where it has any.
const TRY_TIME: Duration = Duration::from_secs(60);

/// The objects under a prefix.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    place: Place,
    /// Most tries; none: until it succeeds.
    tries: Option<u32>,
    trouble: Arc<Mutex<Option<Arc<StorageError>>>>,
}

/// What has become of an object that was to be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// It is there now.
    New,
    /// There is one, by somebody else or by an earlier try whose answer was lost.
    Exists,
}

impl Objects {
    pub(super) fn new(place: Place) -> Self {
        Self { place, tries: None, trouble: Arc::default() }
    }

    /// The same, giving up after so many tries.
    pub(super) fn with_tries(&self, tries: u32) -> Self {
        Self { tries: Some(tries), ..self.clone() }
    }

    /// The same for what nobody waits for: its trouble is nobody's, and it gives up after so many tries.
    pub(super) fn in_background(&self, tries: u32) -> Self {
        Self { tries: Some(tries), trouble: Arc::default(), ..self.clone() }
    }

    /// The URL, for people.
    pub(super) fn shown(&self) -> &str {
        &self.place.shown
    }

    /// Why the store does not answer at the moment, if it does not.
    pub(super) fn trouble(&self) -> Option<Arc<StorageError>> {
        self.trouble.lock().clone()
    }

    /// Makes an object if there is none of this name.
    pub(super) async fn create(&self, name: &str, bytes: &Bytes) -> Result<Created, StorageError> {
        self.again("write", name, |store, path| {
            let payload = PutPayload::from_bytes(bytes.clone());
            async move {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                match store.put_opts(&path, payload, options).await {
                    Ok(_) => Ok(Created::New),
                    Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::Exists),
                    Err(error) => Err(error),
                }
            }
        })
        .await
    }

    /// Makes an object, in place of one that has its name.
    pub(super) async fn put(&self, name: &str, bytes: &Bytes) -> Result<(), StorageError> {
        self.again("write", name, |store, path| {
            let payload = PutPayload::from_bytes(bytes.clone());
            async move { store.put(&path, payload).await.map(drop) }
        })
        .await
    }

    /// What an object has; none if there is none.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>, StorageError> {
        self.again("read", name, async move |store, path| {
            let found = async { store.get(&path).await?.bytes().await };
            found_or_none(found.await)
        })
        .await
    }

    /// The names in a folder, and in those below it, sorted; with `after`, those behind that one.
    pub(super) async fn list(&self, folder: &str, after: Option<&str>) -> Result<Vec<String>, StorageError> {
        let after = after.map(|after| self.path(&format!("{folder}/{after}")));
        self.again("list", folder, |store, path| {
            let found = match &after {
                Some(after) => store.list_with_offset(Some(&path), after),
                None => store.list(Some(&path)),
            };
            async move {
                let found: Vec<_> = found.try_collect().await?;
                let inside = found.iter().filter_map(|found| found.location.prefix_match(&path));
                let mut names: Vec<String> =
                    inside.map(|rest| rest.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/")).collect();
                names.sort_unstable();
                Ok(names)
            }
        })
        .await
    }

    /// Removes objects, some at a time, and takes their names off the list then. Those that are not there are gone.
    pub(super) async fn remove(&self, names: &mut Vec<String>) -> Result<(), StorageError> {
        while !names.is_empty() {
            let some = names.len().saturating_sub(REMOVED_TOGETHER);
            self.remove_some(&names[some..]).await?;
            names.truncate(some);
        }
        Ok(())
    }

    async fn remove_some(&self, names: &[String]) -> Result<(), StorageError> {
        let Some(first) = names.first() else { return Ok(()) };
        self.again("remove", first, |store, _| {
            let paths: Vec<_> = names.iter().map(|name| Ok(self.path(name))).collect();
            async move {
                let mut removed = store.delete_stream(futures::stream::iter(paths).boxed());
                while let Some(one) = removed.next().await {
                    found_or_none(one)?;
                }
                Ok(())
            }
        })
        .await
    }

    fn path(&self, name: &str) -> Path {
        self.place.prefix.parts().chain(Path::from(name).parts()).collect()
    }

    async fn again<T, F: Future<Output = object_store::Result<T>>>(
        &self,
        what: &'static str,
        name: &str,
        work: impl Fn(Arc<dyn ObjectStore>, Path) -> F,
    ) -> Result<T, StorageError> {
        let path = self.path(name);
        let mut pause = PAUSE_FIRST;
        for tried in 1.. {
            let reason = match tokio::time::timeout(TRY_TIME, work(self.place.store.clone(), path.clone())).await {
                Ok(Ok(done)) => {
                    *self.trouble.lock() = None;
                    return Ok(done);
                }
                Ok(Err(error)) => plain(&error),
                Err(_) => format!("no answer within {} s", TRY_TIME.as_secs()),
            };
            let why = || StorageError::ObjectStore { what, object: format!("{}/{name}", self.shown()), reason: reason.clone() };
            if self.tries.is_some_and(|tries| tried >= tries) {
                return Err(why());
            }
            if tried == 1 {
                tracing::warn!(error = %why(), "the object store does not answer; it is tried again");
            }
            *self.trouble.lock() = Some(Arc::new(why()));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
        unreachable!("the tries do not end")
    }
}

fn found_or_none<T>(found: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An error in one line, without the headers and bodies of a request.
fn plain(error: &Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(300).collect()
}
