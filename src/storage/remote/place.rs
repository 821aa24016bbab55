//! Where the objects are: from a URL to something that stores them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};
use parking_lot::Mutex;
use url::Url;

use crate::storage::StorageError;

/// Stores in this process, by name: for tests, which put their own here before they use it.
static MEMORY: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>> = Mutex::new(BTreeMap::new());

/// A store, and where in it all of a coordinator's objects are.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: Path,
    /// The URL, without what nobody is to see.
    pub(super) shown: String,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// What `memory:///name` is from now on.
#[doc(hidden)]
pub fn keep_in_memory(name: &str, store: Arc<dyn ObjectStore>) {
    MEMORY.lock().insert(name.to_owned(), store);
}

impl Place {
    /// Of a URL: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///folder`, `memory:///name`.
    pub(super) fn of(text: &str) -> Result<Self, StorageError> {
        let wrong = |why: String| StorageError::ObjectStoreUrl { url: without_secrets(text), why };
        let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| wrong(format!("{}:// is not known", url.scheme())))?;
        let shown = without_secrets(text);
        if scheme == ObjectStoreScheme::Local {
            let folder = url.to_file_path().map_err(|()| wrong("it names no folder".to_owned()))?;
            let made = std::fs::create_dir_all(&folder).map_err(|error| error.to_string());
            let store = made.and_then(|()| LocalFileSystem::new_with_prefix(&folder).map_err(|error| error.to_string()));
            let store = store.map_err(wrong)?.with_fsync(true);
            return Ok(Self { store: Arc::new(store), prefix: Path::default(), shown });
        }
        if scheme == ObjectStoreScheme::Memory {
            let mut known = MEMORY.lock();
            let store = known.entry(prefix.to_string()).or_insert_with(|| Arc::new(InMemory::new())).clone();
            return Ok(Self { store, prefix: Path::default(), shown });
        }
        let store = cloud(&scheme, &url).ok_or_else(|| wrong("this bowstring was built without it (feature cloud)".to_owned()))?;
        Ok(Self { store: store.map_err(|error| wrong(error.to_string()))?, prefix, shown })
    }
}

#[cfg(feature = "cloud")]
fn cloud(scheme: &ObjectStoreScheme, url: &Url) -> Option<object_store::Result<Arc<dyn ObjectStore>>> {
    use object_store::aws::AmazonS3Builder;
    use object_store::azure::MicrosoftAzureBuilder;
    use object_store::gcp::GoogleCloudStorageBuilder;
    use object_store::{BackoffConfig, RetryConfig};

    // Who else in this process has chosen one may keep it.
    drop(rustls::crypto::ring::default_provider().install_default());
    // One try: what fails is tried again here, where it can be told why nothing goes on.
    let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, ..RetryConfig::default() };
    fn shared<S: ObjectStore>(store: S) -> Arc<dyn ObjectStore> {
        Arc::new(store)
    }
    Some(match scheme {
        ObjectStoreScheme::AmazonS3 => {
            // Not every server that speaks S3 knows how to remove several at once.
            let builder = AmazonS3Builder::from_env().with_disable_bulk_delete(true);
            builder.with_url(url.as_str()).with_retry(retry).build().map(shared)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry).build().map(shared)
        }
        ObjectStoreScheme::MicrosoftAzure => MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry).build().map(shared),
        _ => return None,
    })
}

#[cfg(not(feature = "cloud"))]
fn cloud(_: &ObjectStoreScheme, _: &Url) -> Option<object_store::Result<Arc<dyn ObjectStore>>> {
    None
}

/// A URL without a name and password before its host, and without what follows a `?`.
fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) if !scheme.contains('@') => format!("{scheme}://{host}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_no_place_is_refused_and_shows_no_secret() {
        for (url, word) in [("s3", "relative URL"), ("ftp://name:secret@host/x", "ftp:// is not known"), ("http://h/x?key=secret", "http")]
        {
            let error = Place::of(url).expect_err("is no place").to_string();
            assert!(error.contains(word) && !error.contains("secret"), "{error}");
        }
    }
}
