//! Tells sessions what becomes of the host's interfaces, from the first one on that has asked for it.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::host::monitor::Monitor;
use crate::model::refusal::Refusal;
use crate::socket::Sockets;

/// One for the whole agent; cheap to clone. It ends with the last clone.
#[derive(Clone, Default)]
pub(super) struct InterfaceWatch(Arc<Mutex<Option<Task>>>);

/// The task that tells it.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl InterfaceWatch {
    /// Makes sure that all that changes from now on is told.
    pub(super) async fn begin(&self, sockets: &Sockets) -> Result<(), Refusal> {
        let mut task = self.0.lock().await;
        // One that the kernel has failed has ended.
        if task.as_ref().is_none_or(|task| task.0.is_finished()) {
            let monitor = Monitor::begin().await.map_err(|errno| {
                tracing::warn!(errno = errno.name(), "the kernel does not tell what becomes of interfaces");
                Refusal::Internal("the kernel does not tell what becomes of interfaces")
            })?;
            *task = Some(Task(tokio::spawn(tell(monitor, sockets.clone())).abort_handle()));
        }
        Ok(())
    }
}

async fn tell(mut monitor: Monitor, sockets: Sockets) {
    loop {
        match monitor.changes().await {
            Ok(events) => events.iter().for_each(|event| sockets.announce_interface(event)),
            Err(errno) => {
                tracing::error!(errno = errno.name(), "no more news of interfaces");
                return;
            }
        }
    }
}
