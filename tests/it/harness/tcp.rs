//! Words for sockets, and for those of TCP: every RPC by its name, how it went in one word, and listeners that keep connects waiting.

use std::net::{IpAddr, SocketAddr};

use farsock::model::errno::Errno;
use farsock::wire::pb;
use prost::Message;
use socket2::{Domain, Socket, Type};

use super::{Agent, Refused, TcpPeer, nanos, within};

macro_rules! rpcs {
    ($($rpc:ident $request:ident $response:ident;)*) => {
        impl Agent {
            $(pub async fn $rpc(&self, request: pb::$request) -> Result<pb::$response, Refused> {
                Ok(self.sockets().$rpc(request).await?.into_inner())
            })*
        }

        $(impl Reported for pb::$response {
            fn report(&self) -> &pb::Report {
                self.report.as_ref().unwrap()
            }
        })*
    };
}

rpcs! {
    create_socket CreateSocketRequest CreateSocketResponse;
    create_sockets CreateSocketsRequest CreateSocketsResponse;
    bind_socket BindSocketRequest BindSocketResponse;
    listen_socket ListenSocketRequest ListenSocketResponse;
    accept_socket AcceptSocketRequest AcceptSocketResponse;
    connect_socket ConnectSocketRequest ConnectSocketResponse;
    disconnect_socket DisconnectSocketRequest DisconnectSocketResponse;
    send_datagrams SendDatagramsRequest SendDatagramsResponse;
    write_socket WriteSocketRequest WriteSocketResponse;
    receive_socket ReceiveSocketRequest ReceiveSocketResponse;
    flush_socket FlushSocketRequest FlushSocketResponse;
    shutdown_socket ShutdownSocketRequest ShutdownSocketResponse;
    close_socket CloseSocketRequest CloseSocketResponse;
    abort_socket AbortSocketRequest AbortSocketResponse;
    set_socket_delivery SetSocketDeliveryRequest SetSocketDeliveryResponse;
    set_socket_options SetSocketOptionsRequest SetSocketOptionsResponse;
}

/// What every changing RPC answers.
pub trait Reported {
    fn report(&self) -> &pb::Report;

    /// How it went, in one word: `ok`, `timed out`, or the error's name.
    fn went(&self) -> String {
        match &self.report().error {
            Some(error) => error.name.clone(),
            None if self.report().timed_out => "timed out".to_owned(),
            None => "ok".to_owned(),
        }
    }
}

/// How an RPC went, in one word: as [`Reported::went`], or the reason of the refusal.
pub fn went<T: Reported>(result: &Result<T, Refused>) -> String {
    match result {
        Ok(response) => response.went(),
        Err(refused) => refused.reason.clone(),
    }
}

/// How a system call of the test went, in the same words.
pub fn answered<T>(result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => Errno::new(error.raw_os_error().unwrap()).name().to_owned(),
    }
}

pub fn millis(millis: i64) -> Option<prost_types::Duration> {
    let nanos = i32::try_from(millis % 1000 * 1_000_000).unwrap();
    Some(prost_types::Duration { seconds: millis / 1000, nanos })
}

/// How much later the second event was noticed than the first, in milliseconds.
pub fn between(first: &pb::Event, second: &pb::Event) -> i64 {
    let at = |event: &pb::Event| event.time.map(|time| nanos(time.seconds, time.nanos)).unwrap();
    (at(second) - at(first)) / 1_000_000
}

/// A call that waits so long.
pub fn timeout(timeout: i64) -> Option<pb::Call> {
    Some(pb::Call { timeout: millis(timeout), ..Default::default() })
}

/// A call that is answered when it has begun, and that has a name.
pub fn detached(request_id: &str) -> Option<pb::Call> {
    Some(pb::Call { detach: true, request_id: request_id.into(), ..Default::default() })
}

/// An address of this family, with a port of the kernel's choice.
pub fn any_port(ip: IpAddr) -> String {
    SocketAddr::new(ip, 0).to_string()
}

pub fn listening_on(address: &str) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { role: Some(pb::tcp_socket_spec::Role::Listen(address.into())), ..Default::default() }
}

pub fn connecting_to(address: &str) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { role: Some(pb::tcp_socket_spec::Role::Connect(address.into())), ..Default::default() }
}

/// A payload of bytes described in short.
pub fn pattern(size: usize, seed: u64) -> Option<pb::Payload> {
    let fill = Some(pb::pattern::Fill::Seed(seed));
    let pattern = pb::Pattern { size: u32::try_from(size).unwrap(), start: 0, fill };
    Some(pb::Payload { content: Some(pb::payload::Content::Pattern(pattern)), ..Default::default() })
}

/// The bytes of such a payload: SplitMix64, as payload.proto has it.
pub fn pattern_bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A line of the agent's to a peer that does not read, and more bytes than fit in between, as far as one payload goes: both buffers are small.
pub async fn unread_by_the_test(agent: &Agent, ip: IpAddr, id: &str) -> (TcpPeer, usize) {
    unread_with(agent, ip, id, pb::TcpSocketSpec::default()).await
}

/// A listener whose connections have little room for what is not read.
pub fn narrow_listener(ip: IpAddr) -> tokio::net::TcpListener {
    let listener = Socket::new(Domain::for_address(SocketAddr::new(ip, 0)), Type::STREAM, None).unwrap();
    listener.set_recv_buffer_size(4096).unwrap();
    listener.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    listener.listen(1).unwrap();
    listener.set_nonblocking(true).unwrap();
    tokio::net::TcpListener::from_std(listener.into()).unwrap()
}

pub async fn unread_with(agent: &Agent, ip: IpAddr, id: &str, spec: pb::TcpSocketSpec) -> (TcpPeer, usize) {
    let listener = narrow_listener(ip);
    let address = listener.local_addr().unwrap().to_string();
    let sndbuf = pb::SocketOption { name: "SO_SNDBUF".into(), value: Some(pb::socket_option::Value::Number(4096)) };
    agent.connect_with(id, &address, pb::TcpSocketSpec { options: vec![sndbuf], ..spec }).await;
    (TcpPeer::accept(&listener).await, 300_000)
}

/// A TCP socket of the test, as a program of its own would have it: non-blocking.
pub fn plain_tcp(ip: IpAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(ip, 0)), Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A listener whose queue is full, so that connects to it wait until somebody makes room.
pub struct FullListener {
    listener: Socket,
    _queued: std::net::TcpStream,
    pub address: SocketAddr,
}

impl FullListener {
    pub fn new(ip: IpAddr) -> Self {
        let listener = Socket::new(Domain::for_address(SocketAddr::new(ip, 0)), Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::new(ip, 0).into()).unwrap();
        // A backlog of zero has room for one.
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let queued = std::net::TcpStream::connect(address).unwrap();
        Self { listener, _queued: queued, address }
    }

    /// Takes the connection out of the queue: there is room for the next attempt of whoever waits.
    pub fn make_room(&self) {
        drop(self.listener.accept().unwrap());
    }
}

impl Agent {
    /// The bodies of all events of this kind of this socket so far.
    pub async fn events_of(&self, id: &str, kind: &str) -> Vec<pb::event::Body> {
        self.listed(id, kind).await.into_iter().map(|event| event.body.unwrap()).collect()
    }

    /// All events of this kind of this socket so far.
    pub async fn listed(&self, id: &str, kind: &str) -> Vec<pb::Event> {
        let request = pb::ListEventsRequest {
            filter: Some(pb::EventFilter { socket_ids: vec![id.into()], kinds: vec![kind.into()] }),
            view: Some(pb::PayloadView { form: pb::PayloadForm::Data.into(), ..Default::default() }),
            ..Default::default()
        };
        self.events().list_events(request).await.unwrap().into_inner().events
    }

    /// Waits for the last event of a socket, and answers how it ended.
    pub async fn closed(&self, id: &str) -> pb::SocketClosed {
        match self.event(id, "closed").await.body {
            Some(pb::event::Body::Closed(closed)) => closed,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until an operation is over, and answers what it said.
    pub async fn call_response<T: Message + Default>(&self, request_id: &str) -> T {
        let request = pb::GetCallRequest { request_id: request_id.into(), ..Default::default() };
        let call = within("the end of a call", async {
            loop {
                let call = self.sockets().get_call(request.clone()).await.unwrap().into_inner().call.unwrap();
                if call.state() == pb::CallState::Done {
                    return call;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        T::decode(&*call.response.unwrap().value).unwrap()
    }

    /// Waits until something is true of a socket.
    pub async fn until(&self, id: &str, what: &str, holds: impl Fn(&pb::Socket) -> bool) -> pb::Socket {
        within(what, async {
            loop {
                let socket = self.socket(id).await;
                if holds(&socket) {
                    return socket;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}
