//! The memory that reads go to: one buffer a thread, none a socket, and no copy of what is large.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

use crate::model::errno::Errno;
use crate::sys::burst::Burst;

/// Payloads below this are copied out of the thread's buffer, so that a small one that is kept for long does not keep a large buffer
/// with it; larger ones take the buffer along.
const COPY_BELOW: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    static BURST: RefCell<Burst> = RefCell::default();
}

/// Reads by `read`, which appends to the buffer it is given, and returns what it says together with the bytes.
pub(super) fn read_with<T>(read: impl FnOnce(&mut BytesMut) -> Result<T, Errno>) -> Result<(T, Bytes), Errno> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        let told = read(buffer)?;
        let payload = if buffer.len() < COPY_BELOW { Bytes::copy_from_slice(buffer) } else { buffer.split().freeze() };
        Ok((told, payload))
    })
}

/// Takes bytes out of the kernel by `discard`, which only borrows the thread's buffer.
pub(super) fn discard_with(discard: impl FnOnce(&mut BytesMut) -> Result<usize, Errno>) -> Result<usize, Errno> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        discard(buffer)
    })
}

/// Lends the thread's room for datagrams.
pub(super) fn with_burst<T>(read: impl FnOnce(&mut Burst) -> T) -> T {
    BURST.with_borrow_mut(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_do_not_share_memory_that_is_written_again() {
        let read = |byte: u8, size: usize| {
            read_with(|buffer| {
                assert!(buffer.is_empty());
                buffer.resize(size, byte);
                Ok(size)
            })
            .unwrap()
        };
        for size in [0, 1, COPY_BELOW - 1, COPY_BELOW, 4 * COPY_BELOW] {
            let (told, first) = read(1, size);
            let (_, second) = read(2, size);
            assert_eq!((told, first.len(), second.len()), (size, size, size));
            assert!(first.iter().all(|b| *b == 1) && second.iter().all(|b| *b == 2));
        }
        assert_eq!(read_with::<()>(|_| Err(Errno::EAGAIN)), Err(Errno::EAGAIN));
    }
}
