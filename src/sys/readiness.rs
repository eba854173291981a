//! Descriptors whose readiness tokio tells. epoll(7), edge-triggered.
#![allow(unsafe_code, reason = "tokio cannot know that the descriptor stays open while it is registered")]

use std::os::fd::AsRawFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::model::errno::Errno;
use crate::sys::clock::{ClockWatch, FineTimer};
use crate::sys::link::LinkWatch;
use crate::sys::socket::Socket;

/// What owns its descriptor, so that this stays open, and the same, as long as the owner is there.
pub(crate) trait Owner: AsRawFd {}

impl Owner for Arc<Socket> {}
impl Owner for ClockWatch {}
impl Owner for FineTimer {}
impl Owner for LinkWatch {}

/// Registers a descriptor, until the result is dropped.
///
/// Must be called on a tokio runtime. A registration never forgets that its descriptor was hung up or failed once.
pub(crate) fn watch<T: Owner>(owner: T) -> Result<AsyncFd<T>, Errno> {
    // Urgent bytes of TCP: tokio tells them as readable, too.
    let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
    // SAFETY: an owner keeps its descriptor open, and never exchanges it; `AsyncFd` keeps the owner.
    unsafe { AsyncFd::register_with_interest(owner, interest) }
        .map_err(|error| Errno::new(std::io::Error::from(error).raw_os_error().unwrap_or(libc::EIO)))
}
