//! Reading into memory that has not been written yet.
#![allow(unsafe_code, reason = "zeroing 64 KiB before each read would cost more than the read")]

use std::io;
use std::mem::MaybeUninit;

use bytes::{BufMut, BytesMut};

/// Lets `read` fill at most `max` bytes behind what `buffer` holds, and takes as many over as it says it has written.
///
/// `read` must return a number of bytes that it has initialised, as recv(2) does; a larger number than it was given room for is cut.
pub(super) fn fill(
    buffer: &mut BytesMut,
    max: usize,
    read: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<usize>,
) -> io::Result<usize> {
    buffer.reserve(max);
    let spare = &mut buffer.spare_capacity_mut()[..max];
    let filled = read(spare)?.min(max);
    // SAFETY: `spare` starts at the end of the buffer's contents, and `read` has initialised its first `filled` bytes.
    unsafe { buffer.advance_mut(filled) };
    Ok(filled)
}

/// The initialised beginning of a control buffer that recvmsg(2) has filled.
pub(super) fn assume_filled(buffer: &[MaybeUninit<u8>], filled: usize) -> &[u8] {
    let filled = filled.min(buffer.len());
    // SAFETY: the caller passes the `msg_controllen` that the kernel set, and the kernel has written so many bytes.
    unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), filled) }
}
