//! The allocator of the binary: mimalloc.
#![allow(unsafe_code, reason = "mimalloc's options are set by a function of C, which nothing wraps")]

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_get, mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of mimalloc.h: after how many milliseconds free memory goes back to the kernel.
const PURGE_DELAY: mi_option_t = 15;

/// What mimalloc has there by itself: how we know that the option is the one that we mean.
const USUAL_DELAY: c_long = 1_000;

/// Free memory stays for a minute. What exercises free they need again soon, and getting a page back from a kernel that may have to ask its
/// hypervisor for it takes up to 100 µs: longer than sixteen hosts may take to begin at one instant.
const DELAY: c_long = 60_000;

/// Lets mimalloc keep free memory for a while. To be called once, before there are other threads.
pub fn keep_free_memory() {
    // SAFETY: both only read and write a table of numbers, and no other thread does. An option that was set in the environment stays.
    unsafe {
        if mi_option_get(PURGE_DELAY) == USUAL_DELAY {
            mi_option_set(PURGE_DELAY, DELAY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        keep_free_memory();
        // SAFETY: as above.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, DELAY);
    }
}
