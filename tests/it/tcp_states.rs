//! Every operation in every state: the agent answers what the kernel answers to a program of its own.
//!
//! Each test brings two sockets into a state, one of the agent's and one of the test's own, does the same to both and compares. EAGAIN of
//! the plain socket is where the agent waits, and so `timed out` when it may not wait.

use std::io::ErrorKind;
use std::net::{IpAddr, Shutdown, SocketAddr};

use farsock::wire::pb;
use socket2::Socket;
use tokio::net::TcpListener;

use crate::harness::tcp::{
    FullListener, Reported, answered, any_port, connecting_to, detached, listening_on, plain_tcp, timeout, went,
};
use crate::harness::{Agent, LOOPBACKS, TcpPeer, text, within};

/// How a socket stands before something is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unbound,
    Bound,
    Listening,
    Connecting,
    Connected,
    /// Its sending direction was ended from here.
    SendEnded,
    /// Its receiving direction was ended from here.
    ReceiveEnded,
    /// The peer has ended its direction, and everything was read.
    PeerEnded,
    /// The peer has ended its direction, then both were ended from here.
    BothEnded,
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Bind,
    Listen,
    Connect,
    Accept,
    Write,
    Receive,
    ShutDownReceive,
    ShutDownSend,
    ShutDownBoth,
}

const OPERATIONS: [Operation; 9] = [
    Operation::Bind,
    Operation::Listen,
    Operation::Connect,
    Operation::Accept,
    Operation::Write,
    Operation::Receive,
    Operation::ShutDownReceive,
    Operation::ShutDownSend,
    Operation::ShutDownBoth,
];

#[tokio::test]
async fn an_unbound_socket() {
    walk(State::Unbound, &[(Operation::Write, "EPIPE"), (Operation::Receive, "ENOTCONN"), (Operation::Listen, "ok")])
        .await;
}

#[tokio::test]
async fn a_bound_socket() {
    walk(State::Bound, &[(Operation::Bind, "EINVAL"), (Operation::ShutDownSend, "ENOTCONN")]).await;
}

#[tokio::test]
async fn a_listener() {
    walk(State::Listening, &[(Operation::Connect, "EISCONN"), (Operation::Accept, "timed out")]).await;
}

#[tokio::test]
async fn a_socket_that_connects() {
    walk(State::Connecting, &[(Operation::Connect, "EALREADY"), (Operation::Write, "timed out")]).await;
}

#[tokio::test]
async fn a_connection() {
    walk(State::Connected, &[(Operation::Connect, "EISCONN"), (Operation::Listen, "EINVAL")]).await;
}

#[tokio::test]
async fn a_connection_whose_sending_direction_was_ended_here() {
    walk(State::SendEnded, &[(Operation::Write, "EPIPE"), (Operation::ShutDownSend, "ok")]).await;
}

#[tokio::test]
async fn a_connection_whose_receiving_direction_was_ended_here() {
    walk(State::ReceiveEnded, &[(Operation::Write, "ok"), (Operation::Receive, "ok")]).await;
}

#[tokio::test]
async fn a_connection_whose_peer_has_ended() {
    walk(State::PeerEnded, &[(Operation::Write, "ok"), (Operation::Receive, "ok")]).await;
}

#[tokio::test]
async fn a_connection_of_which_both_directions_have_ended() {
    walk(State::BothEnded, &[(Operation::Write, "EPIPE"), (Operation::ShutDownSend, "ENOTCONN")]).await;
}

/// There is no descriptor any more, so there is no system call to ask.
#[tokio::test]
async fn everything_is_refused_of_a_closed_socket() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let ground = Ground::new(ip).await;
        let (id, peer) = ground.lab(&agent, State::Connected).await;
        agent.close(&id).await;
        for operation in OPERATIONS {
            let refused = do_to_lab(&agent, &ground, &id, operation).await;
            assert_eq!(refused, "SOCKET_CLOSED", "{operation:?}");
        }
        let close =
            |allow_missing| pb::CloseSocketRequest { socket_id: id.clone(), allow_missing, ..Default::default() };
        assert_eq!(went(&agent.close_socket(close(false)).await), "SOCKET_CLOSED");
        assert_eq!(went(&agent.close_socket(close(true)).await), "ok");
        let abort =
            |allow_missing| pb::AbortSocketRequest { socket_id: id.clone(), allow_missing, ..Default::default() };
        assert_eq!(went(&agent.abort_socket(abort(false)).await), "SOCKET_CLOSED");
        assert_eq!(went(&agent.abort_socket(abort(true)).await), "ok");
        assert_eq!(agent.socket(&id).await.state(), pb::SocketState::Closed);
        drop(peer);
    }
}

/// A connection that the peer has reset is closed by the agent: nothing can be done with it any more. `closed` tells why.
#[tokio::test]
async fn everything_is_refused_after_a_reset_by_the_peer() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let ground = Ground::new(ip).await;
        let (id, peer) = ground.lab(&agent, State::Connected).await;
        peer.unwrap().abort();
        assert_eq!(agent.closed(&id).await.reason(), pb::CloseReason::PeerReset);
        // A read tells the error once, as recv(2) does.
        assert_eq!(do_to_lab(&agent, &ground, &id, Operation::Receive).await, "ECONNRESET");
        for operation in OPERATIONS {
            let refused = do_to_lab(&agent, &ground, &id, operation).await;
            assert_eq!(refused, "SOCKET_CLOSED", "{operation:?}");
        }
    }
}

/// shutdown(2) of a socket that connects ends the attempt.
#[tokio::test]
async fn ending_a_direction_of_a_socket_that_connects_ends_the_attempt() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let ground = Ground::new(ip).await;
        for operation in [Operation::ShutDownReceive, Operation::ShutDownSend, Operation::ShutDownBoth] {
            let (id, _) = ground.lab(&agent, State::Connecting).await;
            assert_eq!(do_to_lab(&agent, &ground, &id, operation).await, "ok");
            let plain = ground.plain(State::Connecting).await.0;
            do_to_plain(&ground, &plain, operation).await;
            let said = answered::<()>(Err(plain.take_error().unwrap().unwrap()));
            let connected: pb::ConnectSocketResponse = agent.call_response(&format!("{id}-connect")).await;
            assert_eq!(connected.went(), said, "{operation:?}");
            assert!(!agent.socket(&id).await.shut_down);

            // Both begin anew, and get a connection whose directions are open.
            assert_eq!(do_to_lab(&agent, &ground, &id, Operation::Connect).await, "ok", "{operation:?}");
            assert_eq!(do_to_plain(&ground, &plain, Operation::Connect).await, "ok", "{operation:?}");
            agent.write(&id, "x").await;
            assert_eq!(do_to_lab(&agent, &ground, &id, Operation::Receive).await, "timed out", "{operation:?}");
        }
    }
}

/// Linux lets a listener that was shut down listen again.
#[tokio::test]
async fn a_listener_that_was_shut_down_accepts_no_more_until_it_listens_again() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let ground = Ground::new(ip).await;
        let (id, _) = ground.lab(&agent, State::Listening).await;
        let address = agent.socket(&id).await.local.unwrap().text;
        assert_eq!(do_to_lab(&agent, &ground, &id, Operation::ShutDownReceive).await, "ok");
        assert_ne!(agent.socket(&id).await.state(), pb::SocketState::Listening);
        assert_eq!(do_to_lab(&agent, &ground, &id, Operation::Accept).await, "EINVAL");
        let refused = agent.create_tcp(&format!("{id}-early"), connecting_to(&address)).await;
        assert_eq!(went(&refused), "ECONNREFUSED");

        assert_eq!(do_to_lab(&agent, &ground, &id, Operation::Listen).await, "ok");
        // A port that the kernel had chosen may be another one now.
        let again = agent.socket(&id).await;
        assert_eq!(again.state(), pb::SocketState::Listening);
        let mut peer = TcpPeer::connect(&again.local.unwrap().text).await;
        let accept = pb::AcceptSocketRequest { socket_id: id.clone(), ..Default::default() };
        let accepted = agent.accept_socket(accept).await.unwrap().socket.unwrap();
        peer.write(b"hi").await;
        assert_eq!(agent.receive_text(&accepted.socket_id).await, "hi");
        assert!(!agent.kinds(&id).await.contains(&"accept_failed".to_owned()));
    }
}

/// Does every operation to a fresh pair of sockets in this state, and compares. Some answers are spelled out, so that the test cannot pass
/// because both sockets were in another state.
async fn walk(state: State, known: &[(Operation, &str)]) {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let ground = Ground::new(ip).await;
        let (mut told, mut meant) = (Vec::new(), Vec::new());
        for operation in OPERATIONS {
            let (id, peer) = ground.lab(&agent, state).await;
            let answer = do_to_lab(&agent, &ground, &id, operation).await;
            // An error stands in the log, once.
            let failures =
                agent.events_of(&id, "failed").await.len() + agent.events_of(&id, "connect_failed").await.len();
            let ended = state == State::Connecting && format!("{operation:?}").starts_with("ShutDown");
            assert_eq!(failures, usize::from(answer.starts_with('E') || ended), "{operation:?}: {answer}");
            told.push((operation, answer));
            drop(peer);

            let (socket, _peer) = ground.plain(state).await;
            meant.push((operation, do_to_plain(&ground, &socket, operation).await));
        }
        assert_eq!(told, meant, "{state:?}, {ip}");
        for (operation, answer) in known {
            assert!(told.contains(&(*operation, (*answer).to_owned())), "{state:?}: {operation:?} {answer}");
        }
    }
    agent.stop().await;
}

/// What both sockets have to deal with.
struct Ground {
    ip: IpAddr,
    /// Where connects succeed.
    open: (TcpListener, SocketAddr),
    /// Where connects wait.
    full: FullListener,
}

impl Ground {
    async fn new(ip: IpAddr) -> Self {
        Self { ip, open: TcpPeer::listen(ip).await, full: FullListener::new(ip) }
    }

    /// A socket of the agent's in this state, and its peer if it has one.
    async fn lab(&self, agent: &Agent, state: State) -> (String, Option<TcpPeer>) {
        let spec = match state {
            State::Unbound => pb::TcpSocketSpec { family: family(self.ip).into(), ..Default::default() },
            State::Bound => pb::TcpSocketSpec { bind: any_port(self.ip), ..Default::default() },
            State::Listening => {
                pb::TcpSocketSpec { accept: pb::AcceptPolicy::Manual.into(), ..listening_on(&any_port(self.ip)) }
            }
            State::Connecting => pb::TcpSocketSpec { family: family(self.ip).into(), ..Default::default() },
            _ => connecting_to(&self.open.1.to_string()),
        };
        let created = agent.create_tcp("", spec).await.unwrap();
        assert_eq!(created.went(), "ok");
        let id = created.socket.unwrap().socket_id;
        if state == State::Connecting {
            let (remote, call) = (self.full.address.to_string(), detached(&format!("{id}-connect")));
            let request = pb::ConnectSocketRequest { socket_id: id.clone(), remote, call, ..Default::default() };
            agent.connect_socket(request).await.unwrap();
            agent.event(&id, "connect_started").await;
        }
        if matches!(state, State::Unbound | State::Bound | State::Listening | State::Connecting) {
            return (id, None);
        }
        let mut peer = TcpPeer::accept(&self.open.0).await;
        if matches!(state, State::PeerEnded | State::BothEnded) {
            peer.shut_down().await;
            agent.event(&id, "peer_closed").await;
        }
        let how = match state {
            State::SendEnded => pb::ShutdownHow::Send,
            State::ReceiveEnded => pb::ShutdownHow::Receive,
            State::BothEnded => pb::ShutdownHow::Both,
            _ => return (id, Some(peer)),
        };
        assert_eq!(agent.shut_down(&id, how).await.went(), "ok");
        (id, Some(peer))
    }

    /// A socket of the test's own in this state, and its peer if it has one.
    async fn plain(&self, state: State) -> (Socket, Option<TcpPeer>) {
        let socket = plain_tcp(self.ip);
        match state {
            State::Unbound => return (socket, None),
            State::Bound | State::Listening => {
                socket.bind(&SocketAddr::new(self.ip, 0).into()).unwrap();
                if state == State::Listening {
                    socket.listen(511).unwrap();
                }
                return (socket, None);
            }
            State::Connecting => {
                let begun = socket.connect(&self.full.address.into()).unwrap_err();
                assert_eq!(begun.raw_os_error(), Some(libc::EINPROGRESS));
                return (socket, None);
            }
            _ => {}
        }
        assert_eq!(do_to_plain(self, &socket, Operation::Connect).await, "ok");
        let mut peer = TcpPeer::accept(&self.open.0).await;
        if matches!(state, State::PeerEnded | State::BothEnded) {
            peer.shut_down().await;
            assert_eq!(within("the end of the stream", readable(&socket)).await, 0);
        }
        match state {
            State::SendEnded => socket.shutdown(Shutdown::Write).unwrap(),
            State::ReceiveEnded => socket.shutdown(Shutdown::Read).unwrap(),
            State::BothEnded => socket.shutdown(Shutdown::Both).unwrap(),
            _ => {}
        }
        (socket, Some(peer))
    }
}

async fn do_to_lab(agent: &Agent, ground: &Ground, id: &str, operation: Operation) -> String {
    let socket_id = id.to_owned();
    let at_once = timeout(0);
    match operation {
        Operation::Bind => {
            let local = any_port(ground.ip);
            went(&agent.bind_socket(pb::BindSocketRequest { socket_id, local, ..Default::default() }).await)
        }
        Operation::Listen => {
            went(&agent.listen_socket(pb::ListenSocketRequest { socket_id, ..Default::default() }).await)
        }
        Operation::Connect => {
            let remote = ground.open.1.to_string();
            went(&agent.connect_socket(pb::ConnectSocketRequest { socket_id, remote, ..Default::default() }).await)
        }
        Operation::Accept => {
            let request = pb::AcceptSocketRequest { socket_id, call: at_once, ..Default::default() };
            went(&agent.accept_socket(request).await)
        }
        Operation::Write => {
            let request = pb::WriteSocketRequest { socket_id, payload: text("x"), call: at_once, ..Default::default() };
            went(&agent.write_socket(request).await)
        }
        Operation::Receive => {
            let request = pb::ReceiveSocketRequest { socket_id, call: at_once, ..Default::default() };
            went(&agent.receive_socket(request).await)
        }
        Operation::ShutDownReceive | Operation::ShutDownSend | Operation::ShutDownBoth => {
            let how = match operation {
                Operation::ShutDownReceive => pb::ShutdownHow::Receive,
                Operation::ShutDownSend => pb::ShutdownHow::Send,
                _ => pb::ShutdownHow::Both,
            };
            let request = pb::ShutdownSocketRequest { socket_id, how: how.into(), ..Default::default() };
            went(&agent.shutdown_socket(request).await)
        }
    }
}

async fn do_to_plain(ground: &Ground, socket: &Socket, operation: Operation) -> String {
    let answer = match operation {
        Operation::Bind => answered(socket.bind(&SocketAddr::new(ground.ip, 0).into())),
        Operation::Listen => answered(socket.listen(511)),
        Operation::Connect => {
            // A non-blocking connect goes on until it has an answer, and the second call fetches that.
            let remote = ground.open.1.into();
            match socket.connect(&remote) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                    within("an answer", async {
                        loop {
                            match socket.connect(&remote) {
                                Err(error) if error.raw_os_error() == Some(libc::EALREADY) => {
                                    tokio::task::yield_now().await;
                                }
                                other => return answered(other),
                            }
                        }
                    })
                    .await
                }
                other => answered(other),
            }
        }
        Operation::Accept => answered(socket.accept()),
        Operation::Write => answered(socket.send_with_flags(b"x", libc::MSG_NOSIGNAL)),
        Operation::Receive => answered(socket.recv(&mut [std::mem::MaybeUninit::uninit()])),
        Operation::ShutDownReceive => answered(socket.shutdown(Shutdown::Read)),
        Operation::ShutDownSend => answered(socket.shutdown(Shutdown::Write)),
        Operation::ShutDownBoth => answered(socket.shutdown(Shutdown::Both)),
    };
    if answer == "EAGAIN" { "timed out".to_owned() } else { answer }
}

/// Reads a byte, or the end of the stream, once it is there.
async fn readable(socket: &Socket) -> usize {
    loop {
        match socket.recv(&mut [std::mem::MaybeUninit::uninit()]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::task::yield_now().await,
            other => return other.unwrap(),
        }
    }
}

fn family(ip: IpAddr) -> pb::Family {
    if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 }
}
