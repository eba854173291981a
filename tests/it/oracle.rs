//! The kernel as the judge: the same random operations are done to sockets of an agent and to plain ones of the test, and must go the same
//! way: the same word, the same bytes, the same TCP state afterwards.
//!
//! Known differences, each handled in one place below: a socket whose connection is broken is closed by its agent (`settle`); where a
//! program is told EAGAIN, an operation that may not wait has timed out (`same`); a shutdown(2) that Linux answers with ENOTCONN has no
//! effect on a socket of an agent (`choose`).

use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use farsock::sys::option;
use farsock::wire::pb;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{SockAddr, Socket};

use crate::harness::tcp::{Reported, any_port, plain_tcp, timeout, went};
use crate::harness::{Agent, LOOPBACKS, within};

/// How many sockets there are at the most at a time.
const SLOTS: usize = 4;
const STEPS: usize = 24;

/// A stream of numbers that starts from a seed: what fails can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// One thing that is done to the socket of a slot.
#[derive(Debug, Clone, Copy)]
enum Step {
    Create,
    Bind,
    /// Bind to the address that another socket has.
    BindTo(usize),
    Listen,
    /// Connect to the local address of a socket, perhaps its own.
    ConnectTo(usize),
    ConnectToNobody,
    Accept(usize),
    Write(usize),
    Receive(usize),
    ShutDown(pb::ShutdownHow),
    Close,
    Abort,
}

/// The same sockets twice.
struct Worlds {
    agent: Agent,
    ip: IpAddr,
    plain: [Option<Socket>; SLOTS],
    ids: [String; SLOTS],
    /// Which of them have a port because they were bound: what a failed connect leaves behind is anybody's.
    bound: [bool; SLOTS],
    made: usize,
    transcript: Vec<String>,
}

impl Worlds {
    async fn new(ip: IpAddr) -> Self {
        Self {
            agent: Agent::start().await,
            ip,
            plain: Default::default(),
            ids: Default::default(),
            bound: Default::default(),
            made: 0,
            transcript: Vec::new(),
        }
    }

    /// A step that makes sense somehow for this slot.
    fn choose(&self, dice: &mut Dice) -> (usize, Step) {
        use pb::ShutdownHow::{Both, Receive, Send};

        let slot = dice.below(SLOTS);
        if self.plain[slot].is_none() {
            return (slot, Step::Create);
        }
        let other = dice.below(SLOTS);
        let free = (0..SLOTS).find(|slot| self.plain[*slot].is_none());
        let step = match (dice.below(16), self.holds_its_port(other), free) {
            (0, ..) => Step::Bind,
            (1, true, _) => Step::BindTo(other),
            (2 | 3, ..) => Step::Listen,
            (4..=6, true, _) => Step::ConnectTo(other),
            (7, ..) => Step::ConnectToNobody,
            (8 | 9, _, Some(free)) => Step::Accept(free),
            (10 | 11, ..) => Step::Write(1 + dice.below(300)),
            (12, ..) if tcp_state(self.plain(slot)) != pb::TcpState::Closed => {
                Step::ShutDown([Receive, Send, Both][dice.below(3)])
            }
            (13, ..) => Step::Close,
            (14, ..) => Step::Abort,
            _ => Step::Receive(1 + dice.below(200)),
        };
        (slot, step)
    }

    async fn take(&mut self, slot: usize, step: Step) {
        let (near, far) = match step {
            Step::Create => self.create(slot).await,
            Step::Bind => {
                let near = word(self.plain(slot).bind(&SockAddr::from(SocketAddr::new(self.ip, 0))));
                (near, self.bind(slot, any_port(self.ip)).await)
            }
            Step::BindTo(other) => {
                let address = self.local(other);
                let near = word(self.plain(slot).bind(&address.into()));
                let far = self.far_local(other).await.unwrap_or_else(|| SocketAddr::new(self.ip, 0));
                (near, self.bind(slot, far.to_string()).await)
            }
            Step::Listen => {
                let request =
                    pb::ListenSocketRequest { socket_id: self.id(slot), backlog: Some(16), ..Default::default() };
                (word(self.plain(slot).listen(16)), went(&self.agent.listen_socket(request).await))
            }
            Step::ConnectTo(other) => {
                let (near, far) = (self.local(other), self.far_local(other).await);
                let Some(far) = far.filter(|_| near.port() != 0) else { return };
                (connect(self.plain(slot), near), self.connect(slot, far).await)
            }
            Step::ConnectToNobody => {
                let nobody = SocketAddr::new(self.ip, 1);
                (connect(self.plain(slot), nobody), self.connect(slot, nobody).await)
            }
            Step::Accept(into) => self.accept(slot, into).await,
            Step::Write(size) => {
                let bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
                let near = self.plain(slot).send_with_flags(&bytes, libc::MSG_NOSIGNAL);
                let near = near.map_or_else(|error| word::<()>(Err(error)), |size| format!("ok {size}"));
                (near, self.write(slot, bytes).await)
            }
            Step::Receive(max) => {
                let mut buffer = vec![std::mem::MaybeUninit::uninit(); max];
                let near = match self.plain(slot).recv(&mut buffer) {
                    Ok(size) => format!("ok {size}"),
                    Err(error) => word::<()>(Err(error)),
                };
                (near, self.receive(slot, max).await)
            }
            Step::ShutDown(how) => {
                let plain = match how {
                    pb::ShutdownHow::Receive => Shutdown::Read,
                    pb::ShutdownHow::Both => Shutdown::Both,
                    _ => Shutdown::Write,
                };
                let request =
                    pb::ShutdownSocketRequest { socket_id: self.id(slot), how: how.into(), ..Default::default() };
                (word(self.plain(slot).shutdown(plain)), went(&self.agent.shutdown_socket(request).await))
            }
            Step::Close => {
                drop(self.plain[slot].take());
                let request = pb::CloseSocketRequest { socket_id: self.id(slot), ..Default::default() };
                ("ok".to_owned(), went(&self.agent.close_socket(request).await))
            }
            Step::Abort => {
                self.plain(slot).set_linger(Some(Duration::ZERO)).unwrap();
                drop(self.plain[slot].take());
                let request = pb::AbortSocketRequest { socket_id: self.id(slot), ..Default::default() };
                ("ok".to_owned(), went(&self.agent.abort_socket(request).await))
            }
        };
        self.bound[slot] |= matches!(step, Step::Bind) && near == "ok";
        self.transcript.push(format!("{slot} {step:?}: {near} / {far}"));
        if !same(&near, &far) {
            let told = self.agent.kinds(&self.ids[slot]).await;
            panic!("the kernel and the agent differ:\n{}\nThe agent told {told:?}", self.transcript.join("\n"));
        }
    }

    // === What the agent is asked ===

    async fn create(&mut self, slot: usize) -> (String, String) {
        self.made += 1;
        self.ids[slot] = format!("s{}", self.made);
        self.bound[slot] = false;
        let socket = plain_tcp(self.ip);
        if self.ip.is_ipv6() {
            socket.set_only_v6(true).unwrap();
        }
        self.plain[slot] = Some(socket);
        let family = if self.ip.is_ipv6() { pb::Family::Ipv6 } else { pb::Family::Ipv4 };
        let spec = pb::TcpSocketSpec {
            family: family.into(),
            accept: pb::AcceptPolicy::Manual.into(),
            delivery: Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() }),
            ..Default::default()
        };
        let made = self.agent.create_tcp(&self.ids[slot], spec).await.unwrap();
        ("ok".to_owned(), made.went())
    }

    async fn bind(&self, slot: usize, local: String) -> String {
        let request = pb::BindSocketRequest { socket_id: self.id(slot), local, ..Default::default() };
        went(&self.agent.bind_socket(request).await)
    }

    async fn connect(&self, slot: usize, remote: SocketAddr) -> String {
        let request = pb::ConnectSocketRequest {
            socket_id: self.id(slot),
            remote: remote.to_string(),
            call: timeout(20_000),
            ..Default::default()
        };
        went(&self.agent.connect_socket(request).await)
    }

    async fn accept(&mut self, slot: usize, into: usize) -> (String, String) {
        let near = self.plain(slot).accept();
        let request = pb::AcceptSocketRequest { socket_id: self.id(slot), call: timeout(0), ..Default::default() };
        let far = self.agent.accept_socket(request).await;
        let words = (word(near.as_ref().map_err(raw)), went(&far));
        if let (Ok((socket, _)), Ok(pb::AcceptSocketResponse { socket: Some(accepted), .. })) = (near, &far) {
            socket.set_nonblocking(true).unwrap();
            self.plain[into] = Some(socket);
            self.bound[into] = false;
            self.ids[into] = accepted.socket_id.clone();
        }
        words
    }

    async fn write(&self, slot: usize, bytes: Vec<u8>) -> String {
        let content = Some(pb::payload::Content::Data(bytes.into()));
        let payload = Some(pb::Payload { content, ..Default::default() });
        let request =
            pb::WriteSocketRequest { socket_id: self.id(slot), payload, call: timeout(0), ..Default::default() };
        match self.agent.write_socket(request).await {
            Ok(written) if written.went() == "ok" => format!("ok {}", written.bytes_written()),
            other => went(&other),
        }
    }

    async fn receive(&self, slot: usize, max: usize) -> String {
        let request = pb::ReceiveSocketRequest {
            socket_id: self.id(slot),
            max_bytes: Some(u32::try_from(max).unwrap()),
            call: timeout(0),
            ..Default::default()
        };
        match self.agent.receive_socket(request).await {
            Ok(received) if received.went() == "ok" => format!("ok {}", received.size()),
            other => went(&other),
        }
    }

    /// Whether nobody else on this machine can have the port of a socket.
    fn holds_its_port(&self, slot: usize) -> bool {
        self.plain[slot].as_ref().is_some_and(|socket| self.bound[slot] || tcp_state(socket) != pb::TcpState::Closed)
    }

    fn plain(&self, slot: usize) -> &Socket {
        self.plain[slot].as_ref().unwrap()
    }

    fn id(&self, slot: usize) -> String {
        self.ids[slot].clone()
    }

    fn local(&self, slot: usize) -> SocketAddr {
        self.plain(slot).local_addr().unwrap().as_socket().unwrap()
    }

    async fn far_local(&self, slot: usize) -> Option<SocketAddr> {
        self.agent.socket(&self.ids[slot]).await.local.map(|local| local.text.parse().unwrap())
    }

    // === After each step ===

    /// Waits until both worlds have come to rest in the same state, and takes leave of connections that are broken.
    async fn settle(&mut self) {
        for slot in 0..SLOTS {
            if self.plain[slot].is_none() {
                continue;
            }
            let what = format!("the same TCP state of {slot} after\n{}\n", self.transcript.join("\n"));
            let closed = within(&what, async {
                loop {
                    let far = self.agent.socket(&self.ids[slot]).await;
                    let near = tcp_state(self.plain(slot));
                    if far.state() == pb::SocketState::Closed {
                        // Only a connection that is over for the kernel is closed by its agent.
                        if near == pb::TcpState::Closed {
                            return true;
                        }
                    } else if far.tcp_state() == near && !self.is_being_noticed(slot, &far) {
                        return false;
                    }
                    tokio::task::yield_now().await;
                }
            })
            .await;
            if closed {
                self.transcript.push(format!("{slot} is over"));
                drop(self.plain[slot].take());
            }
        }
    }

    /// Whether the kernel says that the connection is broken, with nothing left to read: the agent is about to close it.
    fn is_being_noticed(&self, slot: usize, far: &pb::Socket) -> bool {
        let readiness = far.readiness.unwrap_or_default();
        let unread = far.queues.as_ref().map_or(0, pb::SocketQueues::receive_bytes);
        let connected = far.state() == pb::SocketState::Connected;
        connected && tcp_state(self.plain(slot)) == pb::TcpState::Closed && unread == 0 && readiness.failed
    }
}

/// Connects as a program does that waits for the answer.
fn connect(socket: &Socket, remote: SocketAddr) -> String {
    let begun = socket.connect(&remote.into());
    if !matches!(&begun, Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS)) {
        return word(begun);
    }
    let mut waiting = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)];
    poll(&mut waiting, None).unwrap();
    word(socket.connect(&remote.into()))
}

/// The same error once more.
fn raw(error: &std::io::Error) -> std::io::Error {
    std::io::Error::from_raw_os_error(error.raw_os_error().unwrap())
}

fn word<T>(result: std::io::Result<T>) -> String {
    crate::harness::tcp::answered(result)
}

/// Whether both went the same way.
fn same(near: &str, far: &str) -> bool {
    near == far || (near == "EAGAIN" && far == "timed out")
}

fn tcp_state(socket: &Socket) -> pb::TcpState {
    option::tcp_state(socket).map_or(pb::TcpState::Unspecified, pb::TcpState::from)
}

/// Where the walks of each kind start from: sixty seeds, enough for a million steps in the long form, or the one of a walk that failed.
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("FARSOCK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None if std::env::var_os("FARSOCK_LONG").is_some() => 0..21_000,
        None => 0..60,
    }
}

#[tokio::test]
async fn random_operations_on_tcp_go_as_the_kernel_lets_them_go() {
    for ip in LOOPBACKS {
        for seed in seeds() {
            let mut worlds = Worlds::new(ip).await;
            let mut dice = Dice(seed);
            worlds.transcript.push(format!("{ip}, seed {seed}"));
            for _ in 0..STEPS {
                let (slot, step) = worlds.choose(&mut dice);
                worlds.take(slot, step).await;
                worlds.settle().await;
            }
        }
    }
}
