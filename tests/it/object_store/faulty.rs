//! An object store in memory that fails as it is told to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bowstring::storage::remote::keep_in_memory;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// What happens to requests. Percentages are of those that write.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Nothing is answered, and nothing is done.
    pub(super) is_away: AtomicBool,
    /// Refused, and not done.
    pub(super) refused: AtomicU32,
    /// Done, but the answer is an error.
    pub(super) answer_lost: AtomicU32,
    /// Of all requests: so long.
    pub(super) slow_millis: AtomicU64,
    /// What is to be new waits for as long as this is so.
    pub(super) holds_new: AtomicBool,
    /// How many wait.
    pub(super) held: AtomicU64,
    /// Everybody may write everything.
    pub(super) ignores_conditions: AtomicBool,
    /// How many were refused or lost.
    pub(super) count: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Faulty {
    inner: InMemory,
    pub(super) faults: Faults,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    /// One that does not fail yet, and its URL.
    pub(super) fn new(name: &str) -> (Arc<Self>, String) {
        let store = Arc::new(Self { inner: InMemory::new(), faults: Faults::default() });
        keep_in_memory(name, store.clone());
        (store, format!("memory:///{name}"))
    }

    /// Another way to the same objects, which fails by itself.
    pub(super) fn other_way(&self, name: &str) -> (Arc<Self>, String) {
        let store = Arc::new(Self { inner: self.inner.clone(), faults: Faults::default() });
        keep_in_memory(name, store.clone());
        (store, format!("memory:///{name}"))
    }

    /// The names of all objects in a folder.
    pub(super) async fn names(&self, folder: &str) -> Vec<String> {
        let found: Vec<_> = self.inner.list(Some(&Path::from(folder))).try_collect().await.expect("memory");
        found.into_iter().map(|found| found.location.to_string()).collect()
    }

    fn is_so(&self, percent: &AtomicU32) -> bool {
        let is_so = rand::random_range(0..100) < percent.load(Relaxed);
        self.faults.count.fetch_add(u64::from(is_so), Relaxed);
        is_so
    }

    async fn pause(&self) -> Result<()> {
        let millis = self.faults.slow_millis.load(Relaxed);
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        match self.faults.is_away.load(Relaxed) {
            true => Err(fault("the network is away")),
            false => Ok(()),
        }
    }
}

fn fault(why: &'static str) -> Error {
    Error::Generic { store: "Faulty", source: why.into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.pause().await?;
        if self.is_so(&self.faults.refused) {
            return Err(fault("refused"));
        }
        if matches!(options.mode, PutMode::Create) && self.faults.holds_new.load(Relaxed) {
            self.faults.held.fetch_add(1, Relaxed);
            while self.faults.holds_new.load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if self.faults.ignores_conditions.load(Relaxed) {
            options.mode = PutMode::Overwrite;
        }
        let put = self.inner.put_opts(location, payload, options).await;
        if self.is_so(&self.faults.answer_lost) {
            return Err(fault("the answer is lost"));
        }
        put
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.pause().await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.is_so(&self.faults.refused) {
            return futures::stream::once(async { Err(fault("refused")) }).boxed();
        }
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
