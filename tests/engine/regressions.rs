//! Bugs that were found once, each as the shortest story that shows it.

use bowstring::engine::{AppenderKind, Attempt, Epoch, ProducerId, RunId, Task};

pub(crate) fn writer(producer: &str, run: &str, epoch: u64, task: u32, attempt: u64) -> AppenderKind {
    AppenderKind::Writer {
        producer: ProducerId::new(producer).expect("a valid name"),
        run: RunId::new(run).expect("a valid name"),
        epoch: Epoch(epoch),
        task: Task(task),
        attempt: Attempt(attempt),
    }
}
