//! What can be expected of a socket at any time, by the words of the language.

macro_rules! facts {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident => $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// The word that the file has for it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

facts! {
    /// A number that a socket knows of itself.
    FactNumber {
        /// How many connections a listener has open.
        Connections => "connections",
        /// How many connections wait.
        Queue => "queue",
        /// How many bytes were read.
        BytesRead => "bytes_read",
        /// How many bytes were written.
        BytesWritten => "bytes_written",
        /// How many bytes wait to be read.
        ReceiveQueue => "receive_queue",
        /// How many bytes are not acknowledged.
        SendQueue => "send_queue",
        /// How many bytes of writes wait in the agent.
        PendingWriteBytes => "pending_write_bytes",
        /// How many datagrams the kernel dropped.
        DatagramsDropped => "datagrams_dropped",
        /// How many bytes are as the pattern has them.
        Verified => "verified",
        /// How many are not.
        WrongBytes => "wrong_bytes",
        /// How many datagrams are not.
        WrongDatagrams => "wrong_datagrams",
        /// How many probes have come.
        ProbesReceived => "probes_received",
        /// How many have not.
        ProbesLost => "probes_lost",
        /// How many came again.
        ProbesDuplicated => "probes_duplicated",
        /// How many came out of their order.
        ProbesReordered => "probes_reordered",
        /// How many connections may wait.
        Backlog => "backlog",
    }
}

facts! {
    /// Something that is so, or is not.
    FactSwitch {
        /// There is something to read, or an end.
        Readable => "readable",
        /// There is room to write.
        Writable => "writable",
        /// It is connected with itself.
        SelfConnected => "self_connected",
    }
}
