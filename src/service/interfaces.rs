//! Tells sessions what becomes of the host's interfaces, from the first one on that has asked for it.

use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio::task::AbortHandle;

use crate::host::monitor::Monitor;
use crate::model::refusal::Refusal;
use crate::socket::Sockets;

/// One for the whole agent; cheap to clone. It ends with the last clone.
#[derive(Clone, Default)]
pub(super) struct InterfaceWatch(Arc<OnceCell<Task>>);

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
        let begin = || async {
            let monitor = Monitor::begin().await.map_err(|errno| {
                tracing::warn!(errno = errno.name(), "the kernel does not tell what becomes of interfaces");
                Refusal::Internal("the kernel does not tell what becomes of interfaces")
            })?;
            Ok(Task(tokio::spawn(tell(monitor, sockets.clone())).abort_handle()))
        };
        self.0.get_or_try_init(begin).await.map(drop)
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
