//! What went through a connection, as a hash each way.

use sha2::{Digest, Sha256};

use crate::model::view::Hashes;

/// The SHA-256 of all bytes so far, each way.
#[derive(Clone, Default)]
pub(super) struct Digests {
    pub(super) received: Sha256,
    pub(super) written: Sha256,
}

impl Digests {
    /// What they are now. They go on afterwards.
    pub(super) fn now(&self) -> Hashes {
        Hashes { received: self.received.clone().finalize().into(), written: self.written.clone().finalize().into() }
    }
}
