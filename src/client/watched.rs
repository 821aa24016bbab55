//! State that tasks change and callers wait on, async and blocking alike.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// A value behind a lock, with wake-ups for both kinds of callers: a thread that waits costs no runtime, and a
/// change that nobody waits for costs two loads.
#[derive(Debug, Default)]
pub(super) struct Watched<T> {
    value: Mutex<T>,
    threads: Condvar,
    tasks: Notify,
}

/// The deadline passed first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elapsed;

impl<T> Watched<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), threads: Condvar::new(), tasks: Notify::new() }
    }

    /// Looks at or changes the value without waking anybody.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.value.lock())
    }

    /// Changes the value and wakes all who wait.
    pub(super) fn update<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let result = f(&mut self.value.lock());
        self.wake();
        result
    }

    /// Wakes all who wait.
    pub(super) fn wake(&self) {
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }

    /// Waits until `f` gives something.
    ///
    /// # Cancel safety
    /// `f` has either given its result, or changed nothing that the caller does not know of.
    pub(super) async fn wait<R>(&self, mut f: impl FnMut(&mut T) -> Option<R>) -> R {
        loop {
            let woken = self.tasks.notified();
            tokio::pin!(woken);
            // Registered before looking, so that a change between the look and the wait is not missed.
            woken.as_mut().enable();
            if let Some(result) = self.with(&mut f) {
                return result;
            }
            woken.await;
        }
    }

    /// Like `wait`, up to a deadline.
    pub(super) async fn wait_until<R>(&self, deadline: Option<Instant>, mut f: impl FnMut(&mut T) -> Option<R>) -> Result<R, Elapsed> {
        if let Some(result) = self.with(&mut f) {
            return Ok(result);
        }
        let Some(deadline) = deadline else {
            return Ok(self.wait(f).await);
        };
        tokio::time::timeout_at(deadline.into(), self.wait(f)).await.map_err(|_| Elapsed)
    }

    /// Blocks the thread until `f` gives something, up to `until`.
    pub(super) fn block_until<R>(&self, until: Instant, mut f: impl FnMut(&mut T) -> Option<R>) -> Result<R, Elapsed> {
        let mut value = self.value.lock();
        loop {
            if let Some(result) = f(&mut value) {
                return Ok(result);
            }
            if self.threads.wait_until(&mut value, until).timed_out() {
                return f(&mut value).ok_or(Elapsed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::retry::now;
    use super::*;

    fn three(value: &mut u32) -> Option<u32> {
        (*value == 3).then_some(*value)
    }

    #[tokio::test]
    async fn a_task_and_a_thread_see_the_same_change() {
        let watched = Arc::new(Watched::new(0u32));
        let thread = std::thread::spawn({
            let watched = watched.clone();
            move || watched.block_until(now() + Duration::from_secs(10), three)
        });
        let task = tokio::spawn({
            let watched = watched.clone();
            async move { watched.wait(three).await }
        });
        for _ in 0..3 {
            tokio::task::yield_now().await;
            watched.update(|value| *value += 1);
        }
        assert_eq!(task.await.expect("the task does not panic"), 3);
        assert_eq!(thread.join().expect("the thread does not panic"), Ok(3));
    }

    #[tokio::test]
    async fn a_deadline_ends_the_wait_and_what_is_there_is_given_even_after_it() {
        let watched = Watched::new(0u32);
        let past = now();
        assert_eq!(watched.wait_until(Some(past), three).await, Err(Elapsed));
        assert_eq!(watched.block_until(past, three), Err(Elapsed));
        watched.update(|value| *value = 3);
        assert_eq!(watched.wait_until(Some(past), three).await, Ok(3));
        assert_eq!(watched.block_until(past, three), Ok(3));
    }
}
