//! How received bytes are read and handed on.

use std::time::Duration;

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
    /// Payloads that may still be read before it pauses; absent: any number.
    pub credit: Option<u32>,
    /// How long nothing is read after each payload.
    pub read_interval: Duration,
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
    /// Payloads to be read from now on before it pauses.
    pub credit: Option<u32>,
    /// How long nothing is read after each payload from now on.
    pub read_interval: Option<Duration>,
}

impl Delivery {
    /// What a socket begins with where nothing is asked for.
    pub const fn usual(read_size: u32) -> Self {
        let (mode, read_interval) = (DeliveryMode::Events, Duration::ZERO);
        Self { mode, paused: false, read_size, hash: false, credit: None, read_interval }
    }

    /// This delivery after a change.
    #[must_use]
    pub fn changed(self, change: DeliveryChange) -> Self {
        let (paused, credit) = match (change.credit, change.paused) {
            (Some(credit), _) => (false, Some(credit)),
            (None, Some(paused)) => (paused, None),
            (None, None) => (self.paused, self.credit),
        };
        Self {
            mode: change.mode.unwrap_or(self.mode),
            paused,
            read_size: change.read_size.unwrap_or(self.read_size),
            hash: change.hash.unwrap_or(self.hash),
            credit,
            read_interval: change.read_interval.unwrap_or(self.read_interval),
        }
    }

    /// Whether each payload matters for when the next one is read.
    pub const fn counts_payloads(&self) -> bool {
        self.credit.is_some() || !self.read_interval.is_zero()
    }

    /// This delivery after a payload was read: with the last credit, reading pauses.
    #[must_use]
    pub fn after_read(self) -> Self {
        match self.credit {
            None => self,
            Some(0 | 1) => Self { paused: true, credit: None, ..self },
            Some(credit) => Self { credit: Some(credit - 1), ..self },
        }
    }
}

/// Why a socket is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadPause {
    /// SetSocketDelivery, or its creation, asked for it.
    Asked,
    /// Its credit is used up.
    Credit,
    /// The session's log has no room for what nobody has taken yet.
    LogFull,
}

/// How many bytes of writes wait in the agent when it tells to stop, and to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Watermarks {
    /// With more than that, writers are told to stop.
    pub high: u32,
    /// With no more than that, they are told to go on.
    pub low: u32,
}

/// How long writes may take, and what it leads to when one takes longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WriteTimeout {
    /// How long one may take that has no timeout of its own; zero: as long as any other waiting.
    pub usual: Duration,
    /// The connection is closed.
    pub closes: bool,
}

/// How a write is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slices {
    /// Bytes of a slice.
    pub size: u32,
    /// How long to wait before the next one.
    pub interval: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Delivery = Delivery::usual(1024);

    #[test]
    fn credit_is_used_up_by_payloads_and_then_it_pauses() {
        let credited = USUAL.changed(DeliveryChange { credit: Some(2), ..DeliveryChange::default() });
        assert_eq!(credited.after_read(), Delivery { credit: Some(1), ..USUAL });
        assert_eq!(credited.after_read().after_read(), Delivery { paused: true, ..USUAL });
        assert_eq!(USUAL.after_read(), USUAL);
    }

    #[test]
    fn credit_resumes_and_pausing_or_resuming_takes_it_away() {
        let change = |paused, credit| DeliveryChange { paused, credit, ..DeliveryChange::default() };
        let paused = USUAL.changed(change(Some(true), None));
        let credited = paused.changed(change(None, Some(7)));
        assert_eq!(credited, Delivery { credit: Some(7), ..USUAL });
        assert_eq!(credited.changed(change(None, None)), credited);
        assert_eq!(credited.changed(change(Some(true), None)), paused);
        assert_eq!(credited.changed(change(Some(false), None)), USUAL);
    }
}
