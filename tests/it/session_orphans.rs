//! Controllers that are killed, stopped or cut off, each in a process of its own: what they leave is closed when their lease is over, and not
//! before.
//!
//! `FARSOCK_LONG=1`: a thousand of them.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use farsock::wire::pb;
use farsock::wire::pb::event::Body;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::harness::controller::{ControllerProcess, Task, at};
use crate::harness::frames::becomes;
use crate::harness::{
    Agent, AgentProcess, LOOPBACKS, Namespace, TcpPeer, farsock_in, filter, long, millis, nanos, within,
};

/// How many are killed at a time, and how many start at a time.
const MANY: usize = 100;
const STARTING: usize = 8;

/// A controller and the peers of its sockets.
struct Lab {
    agent: Agent,
    task: Task,
    controller: ControllerProcess,
    peers: [TcpPeer; 2],
}

/// When the lease of a session has ended, and when it could have ended first, in nanoseconds.
struct Ended {
    events: Vec<pb::Event>,
    time: i64,
}

impl Lab {
    async fn open(agent: &Agent, mut task: Task, ip: IpAddr) -> Self {
        let agent = Agent::at(agent.channel());
        let (listener, peer) = TcpPeer::listen(ip).await;
        task.peer = peer.to_string();
        let mut controller = ControllerProcess::spawn(&task);
        let door = controller.says("ready").await.as_str().unwrap().to_owned();
        let server = TcpPeer::accept(&listener).await;
        let guest = TcpPeer::connect(&door).await;
        event(&agent, &task.session, "accepted").await;
        if task.busy {
            // It is in the midst of its work.
            let closed = filter(&["busy-2"], &["closed"]);
            let request =
                pb::WaitEventRequest { session_id: task.session.clone(), filter: closed, ..Default::default() };
            assert!(agent.wait(request).await.unwrap().event.is_some());
        }
        Self { agent, task, controller, peers: [server, guest] }
    }

    /// Waits for the end of the session, and looks at what its peers, the log and the agent say.
    async fn ends(agent: &Agent, task: &Task, peers: &mut [TcpPeer; 2]) -> Ended {
        let last = event(agent, &task.session, "lease_expired").await;
        for peer in peers {
            let end = peer.read_to_end().await.map(|_| ()).map_err(|error| error.kind());
            assert_eq!(end, if task.abort { Err(ErrorKind::ConnectionReset) } else { Ok(()) }, "{task:?}");
        }
        let events = agent.all_events(&task.session).await;
        assert_eq!(events.last(), Some(&last), "nothing comes after it");
        let mut ended: Vec<&str> =
            events.iter().filter(|event| of_lease(event)).map(|event| &*event.socket_id).collect();
        ended.retain(|id| !id.starts_with("busy"));
        ended.sort_unstable();
        assert_eq!(ended, ["door", "door.1", "line", "u"], "{task:?}");
        let request = pb::GetSessionRequest { session_id: task.session.clone() };
        let session = agent.sessions().get_session(request).await.unwrap().into_inner().session.unwrap();
        assert_eq!((session.state(), session.socket_count), (pb::SessionState::Expired, 0));
        Ended { time: time(last.time), events }
    }

    /// Kills its controller, and waits for the end. Answers how long after its lease was over it came.
    async fn loses_its_controller(mut self) -> Duration {
        self.controller.kill().await;
        // What the agent says that is left when the controller has gone is left from some moment after this one on.
        let now = self.agent.agent().get_clock(pb::GetClockRequest {}).await.unwrap().into_inner();
        let request = pb::GetSessionRequest { session_id: self.task.session.clone() };
        let session = self.agent.sessions().get_session(request).await.unwrap().into_inner().session.unwrap();
        assert_eq!(session.state(), pb::SessionState::Active, "it was renewed until now: {:?}", self.task);
        let left = session.lease_left.unwrap();
        let earliest = time(now.transmit_time) + nanos(left.seconds, left.nanos);
        let ended = Self::ends(&self.agent, &self.task, &mut self.peers).await;
        assert!(ended.time >= earliest, "{} ns before the end of its lease: {:?}", earliest - ended.time, self.task);
        let created = ended.events.iter().filter(|event| event.kind == "created");
        for created in created {
            let closed = ended.events.iter().filter(|event| event.kind == "closed");
            assert_eq!(closed.filter(|closed| closed.socket_uid == created.socket_uid).count(), 1, "{created:?}");
        }
        Duration::from_nanos((ended.time - earliest).cast_unsigned())
    }
}

/// The first event of this kind of a session, which must come.
async fn event(agent: &Agent, session: &str, kind: &str) -> pb::Event {
    let request = pb::WaitEventRequest {
        session_id: session.into(),
        filter: filter(&[], &[kind]),
        timeout: millis(18_000),
        ..Default::default()
    };
    agent.wait(request).await.unwrap().event.unwrap_or_else(|| panic!("no {kind} in {session}"))
}

/// Whether the end of a lease has closed a socket.
fn of_lease(event: &pb::Event) -> bool {
    matches!(&event.body, Some(Body::Closed(closed)) if closed.reason() == pb::CloseReason::LeaseExpired)
}

fn time(time: Option<prost_types::Timestamp>) -> i64 {
    time.map(|time| nanos(time.seconds, time.nanos)).unwrap()
}

fn task(agent: &AgentProcess, number: usize) -> Task {
    Task {
        agent: at(&agent.unix()),
        session: format!("lab-{number}"),
        abort: number / 2 % 2 == 1,
        peer: String::new(),
        busy: number % 9 == 3,
    }
}

/// As many as there may be, each at whatever it was just doing. Those that live are none the worse for it.
#[tokio::test]
async fn what_killed_controllers_leave_is_closed_when_their_leases_are_over() {
    let limits = ["sessions=300", "expired_sessions=300", "connections=1000", "log_bytes=1048576"];
    let limits: Vec<&str> = limits.iter().flat_map(|limit| ["--limit", limit]).collect();
    let agent = AgentProcess::start_with(&limits).await;
    let client = agent.agent();
    client.open_sockets().await;
    let before = agent.descriptors();
    let mut living = Vec::new();
    for (number, ip) in LOOPBACKS.into_iter().enumerate() {
        let task = Task { busy: false, session: format!("alive-{number}"), ..task(&agent, number) };
        living.push(Lab::open(&client, task, ip).await);
    }

    for round in 0..if long() { 10 } else { 1 } {
        let starting = Arc::new(Semaphore::new(STARTING));
        let mut opening = JoinSet::new();
        for number in 0..MANY {
            let (client, starting) = (Agent::at(client.channel()), Arc::clone(&starting));
            let (task, ip) = (task(&agent, round * MANY + number), LOOPBACKS[number % 2]);
            opening.spawn(async move {
                let _start = starting.acquire_owned().await.unwrap();
                Lab::open(&client, task, ip).await
            });
        }
        let labs = opening.join_all().await;
        assert!(agent.descriptors() >= before.map(|before| before + 4 * MANY));
        let late = labs.into_iter().map(Lab::loses_its_controller).collect::<JoinSet<_>>().join_all().await;
        println!("{} killed: the last is closed {:?} after its lease", late.len(), late.iter().max().unwrap());
        for number in 0..MANY {
            client.delete(&format!("lab-{}", round * MANY + number), false).await.unwrap();
        }
    }

    for Lab { agent, task, .. } in &living {
        let request = pb::GetSessionRequest { session_id: task.session.clone() };
        let session = agent.sessions().get_session(request).await.unwrap().into_inner().session.unwrap();
        assert_eq!((session.state(), session.socket_count), (pb::SessionState::Active, 4));
        let events = agent.all_events(&task.session).await;
        assert!(!events.iter().any(|event| event.kind == "closed"), "{events:?}");
    }
    // Those that live may have as many connections as they like; so their end, too, belongs to what is counted.
    living.into_iter().map(Lab::loses_its_controller).collect::<JoinSet<_>>().join_all().await;
    becomes("as many descriptors as before", || async { agent.descriptors() == before }).await;
    drop(client);
    agent.stop().await;
}

/// Somebody stops a controller in the midst of its work, and lets it go on when all is over: nothing that it does then is carried out, and
/// it is told why.
#[tokio::test]
async fn a_controller_that_was_stopped_for_longer_than_its_lease_is_too_late() {
    let agent = AgentProcess::start().await;
    let client = agent.agent();
    let mut stopped = JoinSet::new();
    for (number, ip) in [0, 1, 2, 3].into_iter().zip(LOOPBACKS.into_iter().cycle()) {
        let task = Task { busy: number != 1, ..task(&agent, number) };
        stopped.spawn(late(Lab::open(&client, task, ip).await));
    }
    stopped.join_all().await;
    drop(client);
    agent.stop().await;
}

async fn late(lab: Lab) {
    let Lab { agent, task, mut controller, mut peers } = lab;
    controller.signal(Signal::STOP);
    let ended = Lab::ends(&agent, &task, &mut peers).await;
    controller.signal(Signal::CONT);
    let lost = controller.says("lost").await;
    let why = lost["why"].as_str().unwrap();
    // What it had said before it was stopped may be answered first.
    let known = ["this program did not run for ", "the agent says that it has expired"];
    assert!(known.iter().any(|known| why.contains(known)), "{why}");
    assert!(lost["used"].as_i64().unwrap() < ended.time, "it has not used anything for longer than it had it");
    let late = controller.says("late").await;
    assert_eq!(late["library"], json!(vec!["lease lost"; 5]));
    assert_eq!(late["agent"], json!(vec!["LEASE_EXPIRED"; 5]));
    assert_eq!(agent.all_events(&task.session).await, ended.events, "nothing has been carried out");
    controller.kill().await;
}

/// A link that leads to an agent in a network of its own, as a tunnel would: agents serve no other host in the clear.
fn lead(namespace: &Namespace, from: SocketAddr, agent: &AgentProcess) -> (SocketAddr, JoinSet<()>) {
    let listener = namespace.enter(|| TcpListener::bind(from).unwrap());
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let (address, agent) = (listener.local_addr().unwrap(), agent.unix());
    let mut leading = JoinSet::new();
    leading.spawn(async move {
        let mut links = JoinSet::new();
        loop {
            let (mut far, _) = listener.accept().await.unwrap();
            let agent = agent.clone();
            links.spawn(async move {
                let mut near = UnixStream::connect(agent).await.unwrap();
                // Whichever way it ends.
                let _ = copy_bidirectional(&mut far, &mut near).await;
            });
        }
    });
    (address, leading)
}

/// The cable to a controller is pulled out, and nobody tells either end: the agent cleans up in time, the controller notices, says so, and has
/// stopped by itself before that; and when the cable is there again, it learns that it comes too late.
#[tokio::test]
async fn a_controller_that_is_cut_off_without_a_word_stops_before_its_sockets_are_closed() {
    let Some((host, desk)) = Namespace::two() else { return };
    host.cable(&desk, "wire", &[("10.78.0.1/24", "10.78.0.2/24"), ("fd78::1/64", "fd78::2/64")]);
    // Otherwise its IPv6 addresses would go with the cable.
    host.set(&[("ipv6/conf/wire/keep_addr_on_down", "1")]);
    let folder = TempDir::new().unwrap();
    let mut command = farsock_in(&host, folder.path());
    command.args(["agent", "--listen"]).arg(at(&folder.path().join("agent.sock")));
    let agent = AgentProcess::spawn(command, folder).await;
    let client = agent.agent();
    client.open_sockets().await;
    let before = agent.descriptors();

    let mut leads = Vec::new();
    let mut labs = Vec::new();
    for (number, wire) in ["10.78.0.1", "fd78::1"].into_iter().enumerate() {
        let (link, leading) = lead(&host, SocketAddr::new(wire.parse().unwrap(), 0), &agent);
        leads.push(leading);
        for task in [0, 2].map(|more| task(&agent, number + more)) {
            let (listener, peer) = host.enter(|| {
                let listener = TcpListener::bind((LOOPBACKS[number], 0)).unwrap();
                let address = listener.local_addr().unwrap();
                (listener, address)
            });
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let task = Task { agent: format!("link:{link}"), peer: peer.to_string(), busy: number == 1, ..task };
            let mut controller = ControllerProcess::spawn_in(&desk, &task);
            let door = controller.says("ready").await.as_str().unwrap().to_owned();
            let server = TcpPeer::accept(&listener).await;
            let guest = host.enter(|| std::net::TcpStream::connect(&door).unwrap());
            guest.set_nonblocking(true).unwrap();
            let peers = [server, TcpPeer(TcpStream::from_std(guest).unwrap())];
            event(&client, &task.session, "accepted").await;
            labs.push(Lab { agent: Agent::at(client.channel()), task, controller, peers });
        }
    }

    host.ip("link set wire down");
    let mut cut_off = JoinSet::new();
    for Lab { agent, task, mut controller, mut peers } in labs {
        cut_off.spawn(async move {
            let ended = Lab::ends(&agent, &task, &mut peers).await;
            let lost = controller.says("lost").await;
            let why = lost["why"].as_str().unwrap();
            assert!(why.contains("no renewal was answered for "), "{why}");
            assert!(lost["used"].as_i64().unwrap() < ended.time, "it has stopped before");
            let cut = controller.says("cut off").await;
            (agent, task, controller, ended, cut)
        });
    }
    let cut_off = cut_off.join_all().await;
    becomes("as many descriptors as before", || async { agent.descriptors() == before }).await;

    host.ip("link set wire up");
    for (agent, task, mut controller, ended, cut) in cut_off {
        println!("{}: {cut}", task.session);
        let late = controller.says("late").await;
        assert_eq!(late["library"], json!(vec!["lease lost"; 5]));
        assert_eq!(late["agent"], json!(vec!["LEASE_EXPIRED"; 5]));
        assert_eq!(agent.all_events(&task.session).await, ended.events, "nothing has been carried out");
        // Its watch has come back, and has been told the end.
        let over = controller.says("over").await;
        assert_eq!(over, "Ok(None)");
        within("its end", controller.kill()).await;
    }
    drop(client);
    agent.stop().await;
}
