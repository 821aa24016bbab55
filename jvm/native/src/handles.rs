//! Handles: the numbers by which Java names what lives here. A number that is not known any more is an error, never a stray pointer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

use bowstring::client::Error;
use jni::sys::jlong;
use parking_lot::Mutex;

/// 0 is none.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// All living things of a kind. One of them is used by one thread at a time; others wait.
pub(crate) struct Handles<T> {
    what: &'static str,
    living: LazyLock<Mutex<HashMap<jlong, Arc<Mutex<T>>>>>,
}

impl<T> Handles<T> {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what, living: LazyLock::new(Mutex::default) }
    }

    /// Java's number for a new one.
    pub(crate) fn insert(&self, value: T) -> jlong {
        let handle = NEXT.fetch_add(1, Relaxed);
        self.living.lock().insert(handle, Arc::new(Mutex::new(value)));
        handle
    }

    /// The one of that number.
    ///
    /// # Errors
    /// `invalid_argument` if it is closed.
    pub(crate) fn get(&self, handle: jlong) -> Result<Arc<Mutex<T>>, Error> {
        let found = self.living.lock().get(&handle).cloned();
        found.ok_or_else(|| Error::InvalidArgument { what: format!("the {} {handle} is closed", self.what) })
    }

    /// Lets it go; a second time is none.
    pub(crate) fn remove(&self, handle: jlong) {
        let removed = self.living.lock().remove(&handle);
        // Not under the lock: what it drops may take a while.
        drop(removed);
    }

    /// How many live.
    pub(crate) fn count(&self) -> usize {
        self.living.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use bowstring::engine::Code;

    use super::*;

    static NAMES: Handles<String> = Handles::new("name");

    #[test]
    fn a_closed_one_is_an_error_and_closing_twice_is_none() {
        let handle = NAMES.insert("a".to_owned());
        NAMES.get(handle).expect("it lives").lock().push('b');
        assert_eq!(*NAMES.get(handle).expect("it lives").lock(), "ab");
        NAMES.remove(handle);
        NAMES.remove(handle);
        let error = NAMES.get(handle).expect_err("it is closed");
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains("the name"), "{error}");
        assert!(NAMES.get(0).is_err(), "0 is none");
    }
}
