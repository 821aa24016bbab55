//! A background task that ends with its owner.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::Error;

/// Aborts its task when dropped, so that no task outlives what it works for.
#[derive(Debug)]
pub(super) struct OwnedTask(AbortHandle);

impl OwnedTask {
    /// Spawns `future`. Should it panic, `on_panic` is told, so that nobody waits for it for ever.
    pub(super) fn spawn(
        runtime: &Handle,
        future: impl Future<Output = ()> + Send + 'static,
        on_panic: impl FnOnce(Error) + Send + 'static,
    ) -> Self {
        let guarded = async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                on_panic(Error::Internal { reason: "a background task panicked".to_owned() });
            }
        };
        Self(runtime.spawn(guarded).abort_handle())
    }
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_ends_when_its_owner_is_dropped() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let task = OwnedTask::spawn(
            &Handle::current(),
            async move {
                let _held = sender;
                std::future::pending::<()>().await;
            },
            drop,
        );
        drop(task);
        assert!(receiver.await.is_err(), "the task's half is dropped with it");
    }

    #[tokio::test]
    async fn a_panic_is_told() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let _task = OwnedTask::spawn(&Handle::current(), async { panic!("on purpose") }, move |error| {
            sender.send(error).expect("somebody listens");
        });
        assert_eq!(receiver.await.expect("told").code(), crate::engine::Code::Internal);
    }
}
