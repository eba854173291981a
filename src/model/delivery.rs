//! How received bytes are read and handed on.

/// Where received bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeliveryMode {
    /// Into the log, as they come.
    #[default]
    Events,
    /// To ReceiveSocket, when it asks.
    Pull,
    /// To the stream that has the socket.
    Transfer,
    /// Nowhere: they are counted.
    Count,
}

/// How received bytes are read and handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// Where they go.
    pub mode: DeliveryMode,
    /// Nothing is read for now.
    pub paused: bool,
    /// Bytes read at a time.
    pub read_size: u32,
    /// Bytes are hashed, each way. TCP only.
    pub hash: bool,
}

/// A change of delivery: what is absent stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DeliveryChange {
    /// Where bytes go from now on.
    pub mode: Option<DeliveryMode>,
    /// Whether reading is paused from now on.
    pub paused: Option<bool>,
    /// Bytes read at a time from now on.
    pub read_size: Option<u32>,
    /// Whether bytes are hashed from now on.
    pub hash: Option<bool>,
}

impl Delivery {
    /// This delivery after a change.
    #[must_use]
    pub fn changed(self, change: DeliveryChange) -> Self {
        Self {
            mode: change.mode.unwrap_or(self.mode),
            paused: change.paused.unwrap_or(self.paused),
            read_size: change.read_size.unwrap_or(self.read_size),
            hash: change.hash.unwrap_or(self.hash),
        }
    }
}
