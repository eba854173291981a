//! The same sockets twice: those of an agent, reached by its RPCs, and plain ones of the test, reached by system calls.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

use farsock::wire::pb;
use pb::{SocketState, TcpState, Transport};
use socket2::{Domain, SockAddr, Socket, Type};

use super::Dice;
use super::exceptions::{Exception, Met};
use super::options::{Row, rows};
use super::pair::{Came, Pair, brought, is_over, local, near_state, word};
use super::story::{Story, data};
use crate::harness::tcp::{FullListener, Reported, timeout, went};
use crate::harness::{Agent, within};

/// How many sockets there are at the most at a time.
pub const SLOTS: usize = 4;

/// One thing that is done to the socket of a slot.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Create,
    /// Bind to an IP address, with a port of the kernel's choice.
    Bind(IpAddr),
    /// Bind to the port of another socket.
    BindTo(usize, IpAddr),
    /// Connect to the local address of a socket, perhaps its own.
    ConnectTo(usize),
    ConnectToNobody,
    Receive(usize),
    ShutDown(pb::ShutdownHow),
    SetOption(usize, i32),
    GetOptions,
    Close,
    Abort,
    // TCP.
    Listen,
    Accept(usize),
    /// Connect to a listener that does not answer.
    ConnectInVain,
    /// End an attempt to connect.
    GiveUp,
    Write(usize),
    /// Write so many bytes, the last of which is urgent.
    WriteUrgent(usize),
    // UDP.
    Disconnect,
    /// Send so many bytes to the remote address.
    Send(usize),
    SendTo(usize, usize),
    SendToNobody,
    SendToPort0,
}

/// How one step went in both worlds, and which events it must have caused.
pub struct Went {
    pub near: String,
    pub far: String,
    pub caused: Vec<&'static str>,
}

impl Went {
    /// With an event if it went well, else with `failed`; with none if nothing has happened.
    pub fn told(near: String, far: String, event: &'static str) -> Self {
        let caused = match near.as_str() {
            "EAGAIN" | "timed out" => vec![],
            failed if failed.starts_with('E') => vec!["failed"],
            _ if event.is_empty() => vec![],
            _ => vec![event],
        };
        Self { near, far, caused }
    }
}

pub struct Worlds<'a> {
    pub agent: &'a Agent,
    pub transport: Transport,
    pub ip: IpAddr,
    pub full: &'a FullListener,
    pub pairs: [Option<Pair>; SLOTS],
    pub met: &'a mut Met,
    pub transcript: Vec<String>,
    pub story: Story,
    /// What is received goes into the log; otherwise it stays in the kernel until it is asked for.
    pub logged: bool,
    seed: u64,
    steps: usize,
    made: usize,
    options: Vec<&'static Row>,
    /// Ports that the same socket has had, near and far.
    ports: HashSet<(u16, u16)>,
    /// The newest event before the walk.
    begun_after: u64,
    /// Nothing more can be said of it.
    abandoned: bool,
}

impl<'a> Worlds<'a> {
    pub async fn new(
        agent: &'a Agent,
        transport: Transport,
        ip: IpAddr,
        full: &'a FullListener,
        seed: u64,
        met: &'a mut Met,
    ) -> Self {
        let reset = agent.reset("").await.report.unwrap();
        let logged = seed % 2 == 1;
        let how = if logged { "logged" } else { "pulled" };
        Self {
            agent,
            transport,
            ip,
            full,
            pairs: Default::default(),
            met,
            transcript: vec![format!("{transport:?}, {ip}, seed {seed}, {how}")],
            story: Story::default(),
            logged,
            seed,
            steps: 0,
            made: 0,
            options: rows(transport, if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 }),
            ports: HashSet::new(),
            begun_after: reset.last_event_seq,
            abandoned: false,
        }
    }

    /// Does something, to both, and waits until both have come to rest.
    pub async fn step(&mut self, dice: &mut Dice) {
        if self.abandoned {
            return;
        }
        let slot = dice.below(SLOTS);
        let step = if self.pairs[slot].is_none() { Step::Create } else { self.choose(slot, dice) };
        self.steps += 1;
        let went = self.take(slot, step).await;
        let Went { near, far, caused } = went;
        self.transcript.push(format!("{slot} {step:?}: {near} / {far}"));
        self.story.expect(&self.request(), &caused);
        if near == "EAGAIN" && far == "timed out" {
            self.met.note(Exception::Waits);
        } else if near == "end" && far == "ECONNRESET" && self.pairs[slot].as_ref().is_some_and(|p| p.writer_told) {
            self.met.note(Exception::ReaderIsTold);
        } else if near != far {
            self.differ(&format!("in how {step:?} of {slot} went")).await;
        }
        self.settle().await;
    }

    /// Closes everything, and reads the log. Answers how many steps there were.
    pub async fn finish(self) -> usize {
        self.agent.reset("").await;
        let events = self.events().await;
        match self.story.check(&events) {
            Err(what) if !self.abandoned => self.differ(&what).await,
            _ => {}
        }
        self.steps
    }

    fn choose(&self, slot: usize, dice: &mut Dice) -> Step {
        use pb::ShutdownHow::{Both, Receive, Send};

        let wildcard = if self.ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let (ip, other) = (dice.one(&[self.ip, self.ip, self.ip, wildcard]), dice.below(SLOTS));
        match dice.below(24) {
            0 | 1 => Step::Bind(ip),
            2 if self.has_its_port(other) => Step::BindTo(other, ip),
            3..=5 if self.is_reachable(other) => Step::ConnectTo(other),
            6 => Step::ConnectToNobody,
            7 | 8 => Step::ShutDown(dice.one(&[Receive, Send, Both])),
            9 => {
                let row = dice.below(self.options.len());
                Step::SetOption(row, dice.one(self.options[row].values))
            }
            10 => Step::GetOptions,
            11 => Step::Close,
            12 => Step::Abort,
            13..=15 => Step::Receive(1 + dice.below(200)),
            _ if self.transport == Transport::Tcp => self.choose_tcp(slot, dice),
            _ => self.choose_udp(dice),
        }
    }

    async fn take(&mut self, slot: usize, step: Step) -> Went {
        match step {
            Step::Create => self.create(slot).await,
            Step::Bind(ip) => self.bind(slot, ip, None).await,
            Step::BindTo(other, ip) => self.bind(slot, ip, Some(other)).await,
            Step::Receive(max) => self.receive(slot, max).await,
            Step::ShutDown(how) => self.shut_down(slot, how).await,
            Step::SetOption(row, value) => self.set_option(slot, row, value).await,
            Step::GetOptions => self.get_options(slot).await,
            Step::Close => {
                self.pairs[slot].as_mut().unwrap().attempt.take();
                let request =
                    pb::CloseSocketRequest { socket_id: self.id(slot), call: self.call(), ..Default::default() };
                let far = went(&self.agent.close_socket(request).await);
                self.pairs[slot] = None;
                Went { near: "ok".to_owned(), far, caused: vec!["closed"] }
            }
            Step::Abort => self.abort(slot).await,
            _ if self.transport == Transport::Tcp => self.take_tcp(slot, step).await,
            _ => self.take_udp(slot, step).await,
        }
    }

    // === What both transports have ===

    async fn create(&mut self, slot: usize) -> Went {
        self.made += 1;
        let id = format!("s{}-{}", self.seed, self.made);
        let kind = if self.transport == Transport::Tcp { Type::STREAM } else { Type::DGRAM };
        let plain = Socket::new(Domain::for_address(SocketAddr::new(self.ip, 0)), kind, None).unwrap();
        plain.set_nonblocking(true).unwrap();
        if self.ip.is_ipv6() {
            plain.set_only_v6(true).unwrap();
        }
        let family = if self.ip.is_ipv6() { pb::Family::Ipv6 } else { pb::Family::Ipv4 }.into();
        let mode = if self.logged { pb::DeliveryMode::Events } else { pb::DeliveryMode::Pull }.into();
        let delivery = Some(pb::Delivery { mode, ..Default::default() });
        let kind = if self.transport == Transport::Tcp {
            let accept = pb::AcceptPolicy::Manual.into();
            pb::create_socket_request::Kind::Tcp(pb::TcpSocketSpec { family, accept, delivery, ..Default::default() })
        } else {
            pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec { family, delivery, ..Default::default() })
        };
        let request = pb::CreateSocketRequest {
            socket_id: id.clone(),
            kind: Some(kind),
            call: self.call(),
            ..Default::default()
        };
        let made = self.agent.create_socket(request).await;
        self.pairs[slot] = Some(Pair::new(plain, made.as_ref().unwrap().socket.clone().unwrap()));
        Went::told("ok".to_owned(), went(&made), "created")
    }

    async fn bind(&mut self, slot: usize, ip: IpAddr, to: Option<usize>) -> Went {
        let (near, far) = to.and_then(|other| self.port(other)).unwrap_or((0, 0));
        let near = word(self.plain(slot).bind(&SockAddr::from(SocketAddr::new(ip, near))));
        let local = SocketAddr::new(ip, far).to_string();
        let request =
            pb::BindSocketRequest { socket_id: self.id(slot), local, call: self.call(), ..Default::default() };
        let far = went(&self.agent.bind_socket(request).await);
        self.pair(slot).bound |= near == "ok";
        Went::told(near, far, "bound")
    }

    async fn shut_down(&mut self, slot: usize, how: pb::ShutdownHow) -> Went {
        let plain = match how {
            pb::ShutdownHow::Receive => Shutdown::Read,
            pb::ShutdownHow::Both => Shutdown::Both,
            _ => Shutdown::Write,
        };
        let state = self.pair(slot).far.state();
        let connected = ![SocketState::Unbound, SocketState::Bound].contains(&state);
        let near = if connected {
            word(self.plain(slot).shutdown(plain))
        } else {
            self.met.note(Exception::FailedShutdownChangesNothing);
            "ENOTCONN".to_owned()
        };
        let request = pb::ShutdownSocketRequest {
            socket_id: self.id(slot),
            how: how.into(),
            call: self.call(),
            ..Default::default()
        };
        let far = went(&self.agent.shutdown_socket(request).await);
        let mut told = Went::told(near, far, "shut_down");
        match state {
            SocketState::Connecting => {
                // The answer of the attempt.
                self.plain(slot).take_error().unwrap().unwrap();
                self.attempt_is_over(slot);
                told.caused.clear();
            }
            SocketState::Listening if how != pb::ShutdownHow::Send => {
                self.pair(slot).bound = false;
                if self.local(slot).port() != 0 {
                    told.caused.push("bound");
                }
            }
            SocketState::Connected if how != pb::ShutdownHow::Send && told.near == "ok" => {
                let pair = self.pair(slot);
                if !pair.ended {
                    pair.came.push_back(Came::End);
                }
                (pair.ended, pair.deaf) = (true, true);
            }
            _ => {}
        }
        told
    }

    async fn set_option(&mut self, slot: usize, row: usize, value: i32) -> Went {
        let row = self.options[row];
        let mut near = word((row.set)(self.plain(slot), value));
        let request = pb::SetSocketOptionsRequest {
            socket_id: self.id(slot),
            options: vec![row.asked(value)],
            call: self.call(),
            ..Default::default()
        };
        let answer = self.agent.set_socket_options(request).await;
        let mut far = went(&answer);
        let caused = if near == "ok" { "option_set" } else { "failed" };
        if near == "ok" && far == "ok" && !row.moves(self.is_connected(slot)) {
            (near, far) = (row.near(self.plain(slot)), row.far(&answer.unwrap().options[0]));
        }
        Went { near, far, caused: vec![caused] }
    }

    fn is_connected(&self, slot: usize) -> bool {
        self.pairs[slot].as_ref().is_some_and(|pair| pair.far.state() == SocketState::Connected)
    }

    async fn get_options(&mut self, slot: usize) -> Went {
        let connected = self.is_connected(slot);
        let rows: Vec<_> = self.options.iter().filter(|row| !row.moves(connected)).collect();
        let names = rows.iter().map(|row| row.name.to_owned()).collect();
        let request = pb::GetSocketOptionsRequest { socket_id: self.id(slot), names, ..Default::default() };
        let read = self.agent.sockets().get_socket_options(request).await.unwrap().into_inner().options;
        let near: Vec<_> = rows.iter().map(|row| row.near(self.plain(slot))).collect();
        let far: Vec<_> = rows.iter().zip(&read).map(|(row, result)| row.far(result)).collect();
        Went { near: near.join(", "), far: far.join(", "), caused: vec![] }
    }

    async fn receive(&mut self, slot: usize, max: usize) -> Went {
        let request = pb::ReceiveSocketRequest {
            socket_id: self.id(slot),
            max_bytes: Some(u32::try_from(max).unwrap()),
            view: Some(pb::PayloadView { form: pb::PayloadForm::Data.into(), ..Default::default() }),
            call: self.call(),
            ..Default::default()
        };
        let far = self.agent.receive_socket(request).await;
        let near = if self.transport == Transport::Tcp {
            self.receive_near(slot, max)
        } else {
            self.receive_datagram_near(slot, max, far.as_ref().ok())
        };
        let far = match &far {
            Ok(received) if received.went() != "ok" => went(&far),
            Ok(received) if received.end => "end".to_owned(),
            Ok(received) => brought(&data(received.payload.as_ref()), received.size() as usize),
            _ => went(&far),
        };
        let mut told = Went::told(near, far, "");
        let pair = self.pairs[slot].as_ref().unwrap();
        // What the log tells, or the end of a connection, is no failure of the operation.
        let unconnected = self.transport == Transport::Tcp && pair.far.state() != SocketState::Connected;
        if (self.logged && !unconnected) || is_over(pair) {
            told.caused.clear();
        }
        told
    }

    // === How it stands ===

    pub fn request(&self) -> String {
        format!("r{}-{}", self.seed, self.steps)
    }

    /// What each request says of itself: its name, and that it waits for nothing.
    pub fn call(&self) -> Option<pb::Call> {
        self.patient_call(0)
    }

    pub fn patient_call(&self, millis: i64) -> Option<pb::Call> {
        timeout(millis).map(|call| pb::Call { request_id: self.request(), ..call })
    }

    /// Bytes that tell steps apart.
    pub fn bytes(&self, size: usize) -> Vec<u8> {
        (0..size).map(|at| u8::try_from((self.steps * 17 + at) % 251).unwrap()).collect()
    }

    pub fn pair(&mut self, slot: usize) -> &mut Pair {
        self.pairs[slot].as_mut().unwrap()
    }

    pub fn plain(&self, slot: usize) -> &Socket {
        &self.pairs[slot].as_ref().unwrap().plain
    }

    pub fn id(&self, slot: usize) -> String {
        self.pairs[slot].as_ref().unwrap().id.clone()
    }

    pub fn local(&self, slot: usize) -> SocketAddr {
        local(self.plain(slot))
    }

    /// The port of a socket, near and far, if it has one.
    pub fn port(&self, slot: usize) -> Option<(u16, u16)> {
        let pair = self.pairs[slot].as_ref()?;
        let far = pair.far.local.as_ref()?.port;
        Some((local(&pair.plain).port(), u16::try_from(far).unwrap())).filter(|(near, _)| *near != 0)
    }

    /// The local addresses of a socket, near and far.
    pub fn addresses(&self, slot: usize) -> (SocketAddr, SocketAddr) {
        let (ip, (near, far)) = (self.local(slot).ip(), self.port(slot).unwrap());
        (SocketAddr::new(ip, near), SocketAddr::new(ip, far))
    }

    /// Whether the port of a socket is its own: what a failed connect, or a listener that was shut down, shows is anybody's.
    fn has_its_port(&self, slot: usize) -> bool {
        let Some(pair) = &self.pairs[slot] else { return false };
        let held = pair.bound || self.transport == Transport::Udp || near_state(&pair.plain) != TcpState::Closed;
        held && self.port(slot).is_some()
    }

    /// Whether nobody else, in the walk or on this machine, gets what is meant for a socket.
    pub fn is_reachable(&self, slot: usize) -> bool {
        let ports = |slot| self.port(slot).map(|(near, _)| near);
        let mut others = (0..SLOTS).filter(|other| *other != slot);
        let alone = self.transport == Transport::Tcp || others.all(|other| ports(other) != ports(slot));
        alone && self.has_its_port(slot)
    }

    /// Whether these are ports of the same socket.
    pub fn are_same(&self, near: SocketAddr, far: SocketAddr) -> bool {
        near.ip() == far.ip() && (near == far || self.ports.contains(&(near.port(), far.port())))
    }

    // === After each step ===

    /// Waits until both worlds have come to rest in the same state, and takes leave of connections that are broken.
    async fn settle(&mut self) {
        let mut difference = String::new();
        let settled = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let request = pb::ListSocketsRequest::default();
                let listed = self.agent.sockets().list_sockets(request).await.unwrap().into_inner().sockets;
                match self.compare(&listed) {
                    None => return,
                    Some(difference_now) => difference = difference_now,
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        if settled.is_err() {
            self.differ(&difference).await;
        }
    }

    /// The first difference between the sockets as they are now.
    fn compare(&mut self, listed: &[pb::Socket]) -> Option<String> {
        for slot in 0..SLOTS {
            let Some(pair) = &mut self.pairs[slot] else { continue };
            if self.logged {
                pair.read_all(self.transport, &mut self.story);
            }
            match listed.iter().find(|far| far.socket_id == pair.id) {
                Some(far) => pair.far = far.clone(),
                // Only a connection that is over for the kernel is closed by its agent.
                None if near_state(&pair.plain) == TcpState::Closed && self.transport == Transport::Tcp => {
                    self.met.note(Exception::BrokenIsClosed);
                    self.transcript.push(format!("{slot} is over"));
                    self.pairs[slot] = None;
                }
                None => return Some(format!("{slot} is gone")),
            }
        }
        for slot in 0..SLOTS {
            if let Some(ports) = self.port(slot) {
                self.ports.insert(ports);
            }
        }
        if self.ports_have_met() {
            self.abandoned = true;
            return None;
        }
        (0..SLOTS).find_map(|slot| self.difference(slot))
    }

    /// Whether the kernel has given a port away again, in one of both worlds: then they are not the same any more.
    fn ports_have_met(&self) -> bool {
        let near: HashSet<_> = self.ports.iter().map(|(near, _)| near).collect();
        let far: HashSet<_> = self.ports.iter().map(|(_, far)| far).collect();
        near.len() < self.ports.len() || far.len() < self.ports.len()
    }

    fn difference(&mut self, slot: usize) -> Option<String> {
        let pair = self.pairs[slot].as_ref()?;
        let (plain, far) = (&pair.plain, &pair.far);
        if self.transport == Transport::Tcp {
            let (near, told) = (near_state(plain), far.tcp_state());
            if near != told {
                return Some(format!("{slot} is in {near:?} / {told:?}"));
            }
            if is_over(pair) && pair.is_through() && far.readiness.unwrap_or_default().failed {
                self.met.note(Exception::EndedIsNotWatched);
            }
            if pair.is_being_noticed() {
                return Some(format!("{slot} is broken / not noticed"));
            }
        }
        let near_local = local(plain);
        let far_local = far.local.as_ref().map(|local| local.text.parse::<SocketAddr>().unwrap());
        let same = match far_local {
            Some(far) => self.are_same(near_local, far),
            None => near_local.port() == 0,
        };
        if !same {
            return Some(format!("{slot} is at {near_local} / {far_local:?}"));
        }
        let near_remote = plain.peer_addr().ok().and_then(|addr| addr.as_socket());
        let far_remote = far.remote.as_ref().map(|remote| remote.text.parse::<SocketAddr>().unwrap());
        let same = match (near_remote, far_remote) {
            (Some(near), Some(far)) => self.are_same(near, far),
            (None, Some(_)) => is_over(pair),
            (near, far) => near == far,
        };
        if !same {
            return Some(format!("{slot} is connected to {near_remote:?} / {far_remote:?}"));
        }
        if near_remote.is_none() && far_remote.is_some() {
            self.met.note(Exception::PeerIsRemembered);
        }
        let (near, told) = (pair.near_figures(), pair.far_figures());
        if near != told && !is_over(pair) {
            return Some(format!("{slot} has {near} / {told}"));
        }
        let (came, read) = (pair.came_bytes, far.bytes_read());
        (self.logged && came != read).then(|| format!("{slot} has read {came} / {read} bytes"))
    }

    async fn events(&self) -> Vec<pb::Event> {
        let (mut events, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListEventsRequest {
                after_event_seq: Some(self.begun_after),
                view: Some(pb::PayloadView { form: pb::PayloadForm::Data.into(), ..Default::default() }),
                page_token,
                ..Default::default()
            };
            let page = within("a page of events", self.agent.list(request)).await;
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return events;
            }
            page_token = page.next_page_token;
        }
    }

    /// Says what both have done so far, and fails.
    pub async fn differ(&self, how: &str) -> ! {
        let told: Vec<_> =
            self.events().await.into_iter().map(|e| format!("{} {} {}", e.socket_id, e.kind, e.request_id)).collect();
        let steps = self.transcript.join("\n");
        panic!("the kernel and the agent differ: {how}\n{steps}\nThe agent told:\n{}", told.join("\n"));
    }
}
