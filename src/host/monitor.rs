//! The interfaces of the host, watched: what becomes of them, as the kernel tells it.
//!
//! What the kernel had no room to tell is found by comparing: of something that has changed twice meanwhile, only the outcome is told.

use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;

use crate::host::network;
use crate::model::errno::Errno;
use crate::model::event::Event;
use crate::model::host::Interfaces;
use crate::sys::link::LinkWatch;
use crate::sys::netlink;
use crate::sys::readiness;

/// Whoever is told what becomes of the interfaces of this network namespace.
pub struct Monitor {
    watch: AsyncFd<LinkWatch>,
    known: Interfaces,
}

impl Monitor {
    /// Begins to watch: what changes from now on is told.
    pub async fn begin() -> Result<Self, Errno> {
        let (watch, known) = blocking(|| {
            // In this order, so that nothing falls in between.
            let watch = LinkWatch::new()?;
            let mut known = Interfaces::default();
            known.replace(network::interfaces()?);
            Ok((watch, known))
        })
        .await?;
        Ok(Self { watch: readiness::watch(watch)?, known })
    }

    /// Waits for the next changes.
    pub async fn changes(&mut self) -> Result<Vec<Event>, Errno> {
        let mut ready = self.watch.readable().await.map_err(|_| Errno::EIO)?;
        let news = match self.watch.get_ref().read() {
            Err(errno) if errno.would_block() => {
                ready.clear_ready();
                return Ok(Vec::new());
            }
            Err(Errno::ENOBUFS) => None,
            Err(errno) => return Err(errno),
            Ok(bytes) => netlink::news(&bytes).ok(),
        };
        match news {
            Some(news) => {
                let notices = news.into_iter().filter_map(network::notice);
                Ok(notices.flat_map(|notice| self.known.take(notice)).collect())
            }
            None => Ok(self.known.replace(blocking(network::interfaces).await?)),
        }
    }
}

/// Asks the kernel on a thread that may wait for it.
async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> Result<T, Errno> + Send + 'static) -> Result<T, Errno> {
    spawn_blocking(ask).await.unwrap_or(Err(Errno::EIO))
}
