//! What the kernel holds in memory for a socket.

/// What the kernel holds in memory for a socket, in bytes with all that is kept beside a packet. socket(7): SO_MEMINFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketMemory {
    /// Received and not read.
    pub received: u32,
    /// How much may be: SO_RCVBUF.
    pub receive_limit: u32,
    /// Packets on their way out.
    pub in_flight: u32,
    /// How much may wait to be sent: SO_SNDBUF.
    pub send_limit: u32,
    /// Set aside for what comes next.
    pub reserved: u32,
    /// What waits to be sent or, for TCP, to be acknowledged.
    pub queued: u32,
    /// Options, filters and control messages.
    pub options: u32,
    /// Received while somebody was reading, and not queued yet.
    pub backlog: u32,
    /// Packets that the kernel has dropped, modulo 2³²: a number, no bytes.
    pub dropped: u32,
}

impl SocketMemory {
    /// The numbers, by the names of the fields.
    pub fn numbers() -> impl Iterator<Item = &'static str> + Clone {
        Self::default().by_name().into_iter().map(|(name, _)| name)
    }

    /// A number by its name.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.by_name().into_iter().find(|(known, _)| *known == name).map(|(_, number)| number.into())
    }

    const fn by_name(&self) -> [(&'static str, u32); 9] {
        [
            ("received", self.received),
            ("receive_limit", self.receive_limit),
            ("in_flight", self.in_flight),
            ("send_limit", self.send_limit),
            ("reserved", self.reserved),
            ("queued", self.queued),
            ("options", self.options),
            ("backlog", self.backlog),
            ("dropped", self.dropped),
        ]
    }
}
