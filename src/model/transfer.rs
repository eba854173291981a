//! A connection's bytes as frames: what the two ends of a TransferSocket stream may send, and when.
//!
//! One [`Transfer`] is what one end knows: it is told each frame that this end sends and each that arrives, in the order in which that happens
//! here. It holds no bytes, only their number, and does nothing by itself.
//!
//! | frame | from | when | what it does |
//! |---|---|---|---|
//! | `open` | client | first, once | asks for the connection |
//! | `opened` | agent | after `open`, once; nothing of the agent's comes before it | grants the client its first credit |
//! | `data` | both | 1 to [`DATA_SIZE`] bytes, within the sender's credit, before its `end` | uses up credit |
//! | `window` | both | at least 1 byte, [`CREDIT`] in all | grants the other end credit |
//! | `end` | both | once | no more `data` of this end: a FIN, to be sent or received |
//! | `close`, `abort` | client | one of them, once; nothing of the client's comes after it | the connection is to be closed, or reset |
//! | `error` | agent | | the kernel takes no more bytes: the client sends no `data` after it |
//! | `closed` | agent | once, last | the socket is gone |
//!
//! Frames cross on their way. What was sent before its sender could know better is no mistake, and is dropped where it arrives: `data` that
//! arrives after this end has sent `error`, anything that arrives after this end has sent `closed`, and `data` that arrives after this end has
//! sent `close` or `abort`. Credit is counted all the same.
//!
//! `clients/vectors/transfer` has sequences of frames with what each of them must lead to, for whoever writes this in another language.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::model::error::SocketError;
use crate::model::operation::Report;
use crate::model::option::OptionResult;
use crate::model::socket::Closing;
use crate::model::view::SocketView;

/// The most bytes of one `data` frame.
pub const DATA_SIZE: u64 = 256 * 1024;

/// The most bytes that one end grants the other in all: what every language can count.
pub const CREDIT: u64 = (1 << 53) - 1;

/// One of the two ends of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who called.
    Client,
    /// Who has the socket.
    Agent,
}

impl Side {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Agent,
            Self::Agent => Self::Client,
        }
    }
}

/// A frame, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Frame {
    /// The client asks for a connection.
    Open,
    /// The connection is there.
    Opened {
        /// How many bytes the client may send at first.
        window: u64,
    },
    /// Bytes.
    Data {
        /// How many.
        size: u64,
    },
    /// The other end may send more.
    Window {
        /// How many bytes more.
        size: u64,
    },
    /// No more bytes come from this end.
    End,
    /// The connection is to be reset, or closed: either way the client is done with it.
    Abort,
    /// The kernel has objected.
    Error,
    /// The socket is gone.
    Closed,
}

/// What is to be done with a frame that is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// What it says.
    Take,
    /// Nothing: it has crossed one that makes it pointless.
    Drop,
}

macro_rules! mistakes {
    ($($(#[$meta:meta])* $variant:ident => $name:literal, $text:literal;)*) => {
        /// Why a frame must not be sent.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Mistake {
            $($(#[$meta])* $variant,)*
        }

        impl Mistake {
            /// Every mistake.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name, as the vectors spell it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }

        impl fmt::Display for Mistake {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text),*
                })
            }
        }
    };
}

mistakes! {
    /// The frame belongs to the other end.
    WrongSide => "WRONG_SIDE", "only the other end sends this frame";
    /// Nothing is open yet.
    NotOpen => "NOT_OPEN", "the first frame must open the stream";
    /// It is open already.
    OpenTwice => "OPEN_TWICE", "the stream is open already";
    /// A frame without a byte.
    NoData => "NO_DATA", "at least one byte is needed";
    /// A frame with too many bytes.
    DataTooLarge => "DATA_TOO_LARGE", "a frame has at most 262144 bytes";
    /// More bytes than were granted.
    NoCredit => "NO_CREDIT", "more bytes than `window` and `opened.window` have granted";
    /// This end has ended already.
    AfterEnd => "AFTER_END", "`end` was sent before, and nothing but `window`, `close` and `abort` comes after it";
    /// A grant of nothing.
    NoWindow => "NO_WINDOW", "at least one byte must be granted";
    /// More credit than can be counted.
    WindowTooLarge => "WINDOW_TOO_LARGE", "at most 2^53 - 1 bytes are granted in all";
    /// The connection was aborted.
    AfterAbort => "AFTER_ABORT", "`close` or `abort` was sent before, and nothing comes after it";
    /// The kernel takes no more.
    AfterError => "AFTER_ERROR", "`error` has come, and no `data` is taken after it";
    /// The socket is gone.
    AfterClosed => "AFTER_CLOSED", "`closed` has come, and nothing comes after it";
}

/// One direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Direction {
    granted: u64,
    sent: u64,
    ended: bool,
}

impl Direction {
    const fn credit(self) -> u64 {
        self.granted - self.sent
    }

    fn grant(&mut self, size: u64) -> Result<(), Mistake> {
        match self.granted.checked_add(size) {
            _ if size == 0 => Err(Mistake::NoWindow),
            Some(granted @ ..=CREDIT) => {
                self.granted = granted;
                Ok(())
            }
            _ => Err(Mistake::WindowTooLarge),
        }
    }

    fn data(&mut self, size: u64) -> Result<(), Mistake> {
        match size {
            0 => Err(Mistake::NoData),
            _ if size > DATA_SIZE => Err(Mistake::DataTooLarge),
            _ if self.ended => Err(Mistake::AfterEnd),
            _ if size > self.credit() => Err(Mistake::NoCredit),
            _ => {
                self.sent += size;
                Ok(())
            }
        }
    }

    fn end(&mut self) -> Result<(), Mistake> {
        if std::mem::replace(&mut self.ended, true) { Err(Mistake::AfterEnd) } else { Ok(()) }
    }
}

/// What one end of a stream knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    side: Side,
    asked: bool,
    open: bool,
    to_agent: Direction,
    to_client: Direction,
    aborted: bool,
    failed: bool,
    closed: bool,
}

impl Transfer {
    /// A stream on which nothing has been sent yet, as this end knows it.
    pub fn new(side: Side) -> Self {
        Self {
            side,
            asked: false,
            open: false,
            to_agent: Direction::default(),
            to_client: Direction::default(),
            aborted: false,
            failed: false,
            closed: false,
        }
    }

    /// This end sends a frame. After a mistake nothing has changed, and it must not be sent.
    pub fn send(&mut self, frame: Frame) -> Result<(), Mistake> {
        self.step(self.side, frame).map(drop)
    }

    /// A frame of the other end has arrived. After a mistake the stream is to be ended.
    pub fn receive(&mut self, frame: Frame) -> Result<Verdict, Mistake> {
        self.step(self.side.other(), frame)
    }

    /// How many bytes this end may send now.
    pub fn credit(&self) -> u64 {
        self.left(self.side)
    }

    /// How many bytes the other end may still send.
    pub fn granted(&self) -> u64 {
        self.left(self.side.other())
    }

    fn left(&self, from: Side) -> u64 {
        let direction = self.direction(from);
        let failed = self.failed && from == Side::Client;
        if self.closed || self.aborted || failed || direction.ended { 0 } else { direction.credit() }
    }

    /// Whether this end has sent, or has got, the `end` of a side.
    pub fn has_ended(&self, side: Side) -> bool {
        self.direction(side).ended
    }

    /// Whether the client is done with the connection.
    pub fn is_aborted(&self) -> bool {
        self.aborted
    }

    /// Whether the socket is gone.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn direction(&self, from: Side) -> Direction {
        match from {
            Side::Client => self.to_agent,
            Side::Agent => self.to_client,
        }
    }

    fn step(&mut self, from: Side, frame: Frame) -> Result<Verdict, Mistake> {
        match from {
            Side::Client => self.step_of_client(frame),
            Side::Agent => self.step_of_agent(frame),
        }
    }

    fn step_of_client(&mut self, frame: Frame) -> Result<Verdict, Mistake> {
        let own = self.side == Side::Client;
        match frame {
            Frame::Opened { .. } | Frame::Error | Frame::Closed => return Err(Mistake::WrongSide),
            _ if self.aborted => return Err(Mistake::AfterAbort),
            _ if self.closed && own => return Err(Mistake::AfterClosed),
            _ if self.closed => return Ok(Verdict::Drop),
            Frame::Open if self.asked => return Err(Mistake::OpenTwice),
            Frame::Open => self.asked = true,
            _ if !self.asked => return Err(Mistake::NotOpen),
            Frame::Data { .. } if self.failed && own => return Err(Mistake::AfterError),
            Frame::Data { size } => {
                self.to_agent.data(size)?;
                if self.failed {
                    return Ok(Verdict::Drop);
                }
            }
            Frame::Window { size } => self.to_client.grant(size)?,
            Frame::End => self.to_agent.end()?,
            Frame::Abort => self.aborted = true,
        }
        Ok(Verdict::Take)
    }

    fn step_of_agent(&mut self, frame: Frame) -> Result<Verdict, Mistake> {
        let own = self.side == Side::Agent;
        match frame {
            Frame::Open | Frame::Abort => return Err(Mistake::WrongSide),
            _ if self.closed => return Err(Mistake::AfterClosed),
            Frame::Opened { .. } if self.open => return Err(Mistake::OpenTwice),
            Frame::Opened { .. } if !self.asked => return Err(Mistake::NotOpen),
            Frame::Opened { window } => {
                if window > 0 {
                    self.to_agent.grant(window)?;
                }
                self.open = true;
            }
            _ if !self.open => return Err(Mistake::NotOpen),
            Frame::Data { .. } if self.aborted && own => return Err(Mistake::AfterAbort),
            Frame::Data { size } => {
                self.to_client.data(size)?;
                if self.aborted {
                    return Ok(Verdict::Drop);
                }
            }
            Frame::Window { size } => self.to_agent.grant(size)?,
            Frame::End => self.to_client.end()?,
            Frame::Error => self.failed = true,
            Frame::Closed => self.closed = true,
        }
        Ok(Verdict::Take)
    }
}

// === The frames themselves ===

/// A frame of the client's, after the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// Bytes for the peer.
    Data(Bytes),
    /// So many bytes more may be sent to the client.
    Window(u64),
    /// A FIN for the peer.
    End,
    /// A RST for the peer.
    Abort,
    /// The socket's end in good order. The kernel gets what came before within this time.
    Close(Duration),
}

impl FromClient {
    /// What the machine needs to know of it.
    pub fn frame(&self) -> Frame {
        match self {
            Self::Data(bytes) => Frame::Data { size: bytes.len() as u64 },
            Self::Window(size) => Frame::Window { size: *size },
            Self::End => Frame::End,
            Self::Abort | Self::Close(_) => Frame::Abort,
        }
    }

    /// The field that has it.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Data(_) => "data",
            Self::Window(_) => "window",
            Self::End => "end",
            Self::Abort => "abort",
            Self::Close(_) => "close",
        }
    }
}

/// How a transfer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The socket.
    pub socket: Option<Box<SocketView>>,
    /// How many bytes the client may send at first.
    pub window: u64,
    /// What became of each option, of a socket that was created for it.
    pub options: Vec<OptionResult>,
    /// How it was created, where it was.
    pub report: Option<Box<Report>>,
}

/// A frame of the agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromAgent {
    /// The first one.
    Opened(Box<Opened>),
    /// Bytes of the peer.
    Data(Bytes),
    /// So many bytes more may be sent to the agent.
    Window(u64),
    /// The peer's FIN.
    End,
    /// What the kernel objected to.
    Error(Box<SocketError>),
    /// The end of the socket.
    Closed(Closing),
}

impl FromAgent {
    /// What the machine needs to know of it.
    pub fn frame(&self) -> Frame {
        match self {
            Self::Opened(opened) => Frame::Opened { window: opened.window },
            Self::Data(bytes) => Frame::Data { size: bytes.len() as u64 },
            Self::Window(size) => Frame::Window { size: *size },
            Self::End => Frame::End,
            Self::Error(_) => Frame::Error,
            Self::Closed(_) => Frame::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// An end, what is on its way to it, and where the bytes stand.
    struct End {
        machine: Transfer,
        arriving: VecDeque<(Frame, u64)>,
        sent: u64,
        received: u64,
        ends: u32,
    }

    impl End {
        fn new(side: Side) -> Self {
            Self { machine: Transfer::new(side), arriving: VecDeque::new(), sent: 0, received: 0, ends: 0 }
        }
    }

    fn bytes_in(frames: &VecDeque<(Frame, u64)>) -> u64 {
        let size = |(frame, _): &(Frame, u64)| if let Frame::Data { size } = frame { *size } else { 0 };
        frames.iter().map(size).sum()
    }

    fn grants_in(frames: &VecDeque<(Frame, u64)>) -> u64 {
        let size = |(frame, _): &(Frame, u64)| match frame {
            Frame::Window { size } | Frame::Opened { window: size } => *size,
            _ => 0,
        };
        frames.iter().map(size).sum()
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let size = prop_oneof![8 => 0..40_u64, 1 => Just(DATA_SIZE), 1 => Just(DATA_SIZE + 1)];
        let grant = prop_oneof![8 => 0..100_u64, 1 => Just(CREDIT), 1 => Just(u64::MAX)];
        prop_oneof![
            4 => Just(Frame::Open),
            4 => grant.clone().prop_map(|window| Frame::Opened { window }),
            20 => size.prop_map(|size| Frame::Data { size }),
            12 => grant.prop_map(|size| Frame::Window { size }),
            2 => Just(Frame::End),
            1 => Just(Frame::Abort),
            1 => Just(Frame::Error),
            1 => Just(Frame::Closed),
        ]
    }

    proptest! {
        /// Two ends that send only what their machine lets them: whatever they try and however frames cross, nothing that arrives is a
        /// mistake, every byte arrives once and in order, credit is never overrun nor lost, and each end is told once.
        #[test]
        fn ends_that_keep_to_their_machine_never_hurt_each_other(
            steps in prop::collection::vec((any::<bool>(), prop::option::weighted(0.6, frame())), 0..200),
        ) {
            let mut ends = [End::new(Side::Client), End::new(Side::Agent)];
            for (second, frame) in steps {
                let [client, agent] = &mut ends;
                let (here, there) = if second { (agent, client) } else { (client, agent) };
                match frame {
                    Some(frame) => {
                        let before = here.machine;
                        if here.machine.send(frame).is_err() {
                            prop_assert_eq!(here.machine, before, "a mistake changes nothing");
                            continue;
                        }
                        there.arriving.push_back((frame, here.sent));
                        if let Frame::Data { size } = frame {
                            prop_assert!(size <= before.credit());
                            here.sent += size;
                        }
                    }
                    None => {
                        let Some((frame, at)) = here.arriving.pop_front() else { continue };
                        let verdict = here.machine.receive(frame);
                        prop_assert!(verdict.is_ok(), "{:?} of {:?}", verdict, frame);
                        if let Frame::Data { size } = frame {
                            prop_assert_eq!(at, here.received, "lost, doubled or out of order");
                            here.received += size;
                        }
                        here.ends += u32::from(frame == Frame::End);
                        prop_assert!(here.ends <= 1);
                    }
                }
                for (sender, receiver) in [(0, 1), (1, 0)] {
                    let (sender, receiver) = (&ends[sender], &ends[receiver]);
                    let from = sender.machine.side;
                    let may_still_come = sender.machine.direction(from).credit()
                        + bytes_in(&receiver.arriving) + grants_in(&sender.arriving);
                    // An agent that has sent `closed` counts nothing any more: there is nothing left to count it for.
                    if !ends[1].machine.closed {
                        prop_assert_eq!(receiver.machine.direction(from).credit(), may_still_come);
                    }
                }
            }
        }

        /// Whatever arrives, an end takes it, drops it or names the mistake; and never has more granted than it said.
        #[test]
        fn no_sequence_of_frames_panics(frames in prop::collection::vec((any::<bool>(), frame()), 0..60)) {
            for side in [Side::Client, Side::Agent] {
                let mut machine = Transfer::new(side);
                for (own, frame) in &frames {
                    let _ = if *own { machine.send(*frame).map(|()| Verdict::Take) } else { machine.receive(*frame) };
                    prop_assert!(machine.credit() <= CREDIT && machine.granted() <= CREDIT);
                }
            }
        }
    }
}
