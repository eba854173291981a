//! The answer of GetSocket, which programs ask for again and again: what of it is text is written straight into the frame, and an address is
//! made into text once. Whoever reads it gets the message that prost would have written.

use std::cell::RefCell;

use bytes::BufMut;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

use crate::model::memory::SocketMemory;
use crate::model::tcp::TcpInfo;
use crate::model::view::SocketView;
use crate::wire::endpoint::Endpoints;
use crate::wire::field::{Fields, Out, message, open, optional_bytes, text};
use crate::wire::{pb, socket};

/// A socket, and what else of it was asked for.
#[derive(Debug)]
pub struct Glance {
    /// The socket.
    pub view: SocketView,
    /// What the kernel knows of the connection.
    pub tcp_info: Option<TcpInfo>,
    /// What the kernel holds in memory for it.
    pub memory: Option<SocketMemory>,
}

impl From<&Glance> for pb::GetSocketResponse {
    fn from(glance: &Glance) -> Self {
        Self {
            socket: Some((&glance.view).into()),
            tcp_info: glance.tcp_info.as_ref().map(pb::TcpInfo::from),
            memory: glance.memory.map(pb::SocketMemory::from),
        }
    }
}

/// The codec of GetSocket on the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct GlanceCodec;

impl Codec for GlanceCodec {
    type Encode = Box<Glance>;
    type Decode = pb::GetSocketRequest;
    type Encoder = GlanceEncoder;
    type Decoder = ProstDecoder<pb::GetSocketRequest>;

    fn encoder(&mut self) -> GlanceEncoder {
        GlanceEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<pb::GetSocketResponse, pb::GetSocketRequest>::default().decoder()
    }
}

/// Writes answers.
pub struct GlanceEncoder;

impl Encoder for GlanceEncoder {
    type Item = Box<Glance>;
    type Error = Status;

    fn encode(&mut self, glance: Box<Glance>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        write(&glance, into);
        Ok(())
    }
}

fn write(glance: &Glance, into: &mut impl BufMut) {
    DESK.with_borrow_mut(|Desk { near, far, written }| {
        let status = &glance.view.status;
        let socket = Socket {
            view: &glance.view,
            local: status.local.as_ref().map(|local| near.written(local)),
            remote: status.remote.as_ref().map(|remote| far.written(remote)),
            rest: socket::rest(&glance.view),
        };
        message(written, SOCKET, &socket);
        if let Some(info) = &glance.tcp_info {
            part(written, TCP_INFO, &pb::TcpInfo::from(info));
        }
        if let Some(memory) = glance.memory {
            part(written, MEMORY, &pb::SocketMemory::from(memory));
        }
        into.put_slice(written);
        written.clear();
    });
}

fn part(out: &mut impl Out, tag: u32, part: &impl Message) {
    open(out, tag, part.encoded_len());
    out.all_of(part);
}

/// `pb::Socket`.
struct Socket<'a> {
    view: &'a SocketView,
    local: Option<&'a [u8]>,
    remote: Option<&'a [u8]>,
    rest: pb::Socket,
}

impl Fields for Socket<'_> {
    fn put(&self, out: &mut impl Out) {
        text(out, 1, self.view.session.as_str());
        text(out, 2, self.view.id.as_str());
        optional_bytes(out, 7, self.local);
        optional_bytes(out, 8, self.remote);
        out.all_of(&self.rest);
    }
}

/// Of pb::GetSocketResponse.
const SOCKET: u32 = 1;
const TCP_INFO: u32 = 2;
const MEMORY: u32 = 3;

/// What a thread writes with.
#[derive(Default)]
struct Desk {
    near: Endpoints,
    far: Endpoints,
    written: Vec<u8>,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::default();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::address::{Endpoint, Family, Transport};
    use crate::model::id::{SessionId, SocketId, SocketUid};
    use crate::model::peers::{PeerRule, Peers};
    use crate::model::socket::{
        AcceptPolicy, CloseReason, Closing, Conduct, HalfOpenPolicy, ListenerStatus, SocketState, SocketStatus, Totals,
    };
    use crate::model::time::Timestamp;
    use crate::model::view::{AcceptQueue, Hashes, ListenerView, Queues, Readiness};
    use proptest::option::of;
    use proptest::prelude::*;

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        let addr = prop::sample::select(vec!["10.0.0.2:80", "[2001:db8::2]:80", "[fe80::2%3]:0", "0.0.0.0:65535"]);
        let zone = of(prop::sample::select(vec!["lo", "eth0"]).prop_map(Arc::from));
        (addr, zone).prop_map(|(addr, zone)| Endpoint { addr: addr.parse().unwrap(), zone })
    }

    fn status() -> impl Strategy<Value = SocketStatus> {
        let state = prop::sample::select(SocketState::ALL.to_vec());
        (state, of(endpoint()), of(endpoint()), any::<[bool; 3]>(), any::<u64>()).prop_map(
            |(state, local, remote, [peer_closed, shut_down, ended], count)| {
                let totals = Totals { bytes_read: count, datagrams_sent: count >> 60, ..Totals::default() };
                let closed = ended.then_some(Closing {
                    reason: CloseReason::Policy,
                    had_error: shut_down,
                    totals,
                    unread_bytes: 0,
                    unwritten_bytes: 7,
                });
                let listener = (count % 2 == 0).then(|| ListenerStatus { backlog: 7, ..ListenerStatus::default() });
                SocketStatus {
                    state,
                    local,
                    remote,
                    peer_closed,
                    shut_down,
                    totals,
                    closed,
                    listener,
                    ..Default::default()
                }
            },
        )
    }

    fn view() -> impl Strategy<Value = SocketView> {
        let id = prop::sample::select(vec!["line", "door.17"]);
        (id, any::<u64>(), status(), any::<[bool; 4]>(), any::<u32>()).prop_map(
            |(id, uid, status, [more, tcp, told, parent], number)| SocketView {
                session: SessionId::parse("lab").unwrap(),
                id: SocketId::parse(id).unwrap(),
                uid: SocketUid(uid),
                parent: parent.then(|| (SocketId::parse("door").unwrap(), SocketUid(1))),
                transport: if tcp { Transport::Tcp } else { Transport::Udp },
                family: if more { Family::Ipv4 } else { Family::Ipv6 },
                created: Timestamp::from_nanos(i64::from(number) << 30),
                labels: Arc::new(more.then(|| ("who".into(), "alice".into())).into_iter().collect()),
                peers: Arc::new(Peers {
                    deny: more.then(|| PeerRule::parse("10.0.0.0/8").unwrap()).into_iter().collect(),
                    allow: Vec::new(),
                }),
                conduct: Conduct {
                    half_open: HalfOpenPolicy::AutoEnd,
                    idle_timeout: std::time::Duration::from_millis(number.into()),
                    ..Conduct::usual(number)
                },
                status,
                listener: told.then_some(ListenerView {
                    accept: AcceptPolicy::Auto,
                    max_connections: Some(number),
                    connection_count: 0,
                    queue: told.then_some(AcceptQueue { length: 0, limit: number }),
                }),
                hashes: more.then_some(Hashes { received: [7; 32], written: [0; 32] }),
                verification: None,
                probes: None,
                queues: told.then_some(Queues { receive_bytes: number, ..Queues::default() }),
                readiness: told.then_some(Readiness { writable: true, ..Readiness::default() }),
                tcp_state: tcp.then_some(crate::model::tcp::TcpState::Established),
            },
        )
    }

    proptest! {
        /// Whatever the thread has written before.
        #[test]
        fn answers_read_as_those_that_prost_writes(views in prop::collection::vec((view(), any::<[bool; 2]>()), 1..4)) {
            for (view, [info, memory]) in views {
                let info = info.then(|| TcpInfo { retransmits: Some(7), ..TcpInfo::default() });
                let memory = memory.then(|| SocketMemory { received: 7, ..SocketMemory::default() });
                let glance = Glance { view, tcp_info: info, memory };
                let (mut written, by_prost) = (Vec::new(), pb::GetSocketResponse::from(&glance));
                write(&glance, &mut written);
                prop_assert_eq!(written.len(), by_prost.encoded_len());
                prop_assert_eq!(pb::GetSocketResponse::decode(&written[..]).unwrap(), by_prost);
            }
        }
    }
}
