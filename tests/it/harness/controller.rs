//! Controllers in processes of their own, which can be killed and stopped: this very program once more, told to run the one "test" that holds a
//! session by the client library.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use farsock::client::{AgentClient, ClientError, Credentials, Dialer, Endpoint, FarStream, Watch, WatchItem};
use farsock::model::address::{AddressText, Family};
use farsock::model::id::{SessionId, SocketId};
use farsock::model::operation::{Action, CallOptions, SocketAction, Target, Yield};
use farsock::model::session::{LeaseSpec, OrphanPolicy, SessionSpec};
use farsock::model::spec::{Kind, SocketSpec, TcpRole, UdpSpec};
use farsock::sys::clock::realtime_nanos;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, interval, timeout_at};

use super::{Namespace, any_port};

/// The variable that makes a controller of this program, and what such a one says begins with.
const TASK: &str = "CONTROLLER_TASK";
const SAYS: &str = "controller: ";

/// How long a controller may take to say something before it is broken: HTTP/2 needs 15 s to notice a dead link.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lease that it asks for: short, and yet long enough for a machine that is busy with a hundred of them.
const TTL: Duration = Duration::from_secs(8);

/// How often one that is busy goes to work. A hundred are to be held up by nothing but their end.
const ROUND: Duration = Duration::from_millis(50);

/// What a controller is to do: hold a session with a connection `line`, a listener `door` and a UDP socket `u`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// Where the agent is: as the command line has it, or behind `link:`, an address from which another host leads to it.
    pub agent: String,
    pub session: String,
    /// Its connections are to be reset when it is gone.
    pub abort: bool,
    /// Where `line` goes.
    pub peer: String,
    /// It makes and closes sockets all the time, and writes to `line`.
    pub busy: bool,
}

/// A controller that runs.
pub struct ControllerProcess {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    /// What it has said and nobody has asked for yet.
    said: Vec<Value>,
}

impl ControllerProcess {
    pub fn spawn(task: &Task) -> Self {
        Self::spawn_as(Command::new(std::env::current_exe().unwrap()), task)
    }

    /// The same within a network of its own.
    pub fn spawn_in(namespace: &Namespace, task: &Task) -> Self {
        Self::spawn_as(namespace.command(&std::env::current_exe().unwrap()), task)
    }

    fn spawn_as(mut command: Command, task: &Task) -> Self {
        command.args(["--exact", "harness::controller::a_controller", "--nocapture"]);
        command.env(TASK, serde_json::to_string(task).unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, out, said: Vec::new() }
    }

    /// What it says of this kind, which must come; before or after other things.
    pub async fn says(&mut self, what: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.said.iter().position(|said| said.get(what).is_some()) {
                return self.said.remove(at)[what].take();
            }
            let line = timeout_at(until, self.out.next_line()).await.unwrap_or_else(|_| panic!("no `{what}`"));
            let line = line.unwrap().unwrap_or_else(|| panic!("it has ended without `{what}`"));
            self.said.extend(line.strip_prefix(SAYS).map(|said| serde_json::from_str::<Value>(said).unwrap()));
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends it by SIGKILL, wherever it is.
    pub async fn kill(mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.child.wait().await.unwrap()
    }
}

// === What follows runs in the process of a controller ===

fn say(what: &str, said: &Value) {
    // The test runner may have begun a line.
    println!("\n{SAYS}{}", json!({ what: said }));
}

/// Not a test, but a controller, where somebody has told it what to do.
#[test]
fn a_controller() {
    let Ok(task) = std::env::var(TASK) else { return };
    let task: Task = serde_json::from_str(&task).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(control(&task));
}

async fn control(task: &Task) {
    let agent = reach(&task.agent);
    let id = SessionId::parse(&task.session).unwrap();
    let orphans = if task.abort { OrphanPolicy::Abort } else { OrphanPolicy::Close };
    let lease = LeaseSpec { ttl: Some(TTL), orphans };
    let session = agent.open_session(Some(&id), SessionSpec { lease, ..SessionSpec::default() }).await.unwrap();
    let client = session.client();
    let watch = client.watch(&id).await.unwrap();
    let peer = AddressText::parse(&task.peer).unwrap();
    create(client, &id, "line", SocketSpec::tcp(TcpRole::Connect(peer))).await.unwrap();
    let here = any_port(task.peer.parse::<std::net::SocketAddr>().unwrap().ip());
    let here = AddressText::parse(&here).unwrap();
    let door = create(client, &id, "door", SocketSpec::tcp(TcpRole::Listen(Some(here)))).await.unwrap();
    create(client, &id, "u", udp()).await.unwrap();
    let looking_on = tokio::spawn(look_on(watch));
    let busy = if task.busy {
        let line = client.attach(&target(&id, "line")).await.unwrap();
        Some(tokio::spawn(toil(client.clone(), id.clone(), line)))
    } else {
        None
    };
    say("ready", &json!(door));

    // Until when it would still have used its sockets, as close as looks go.
    let (mut looks, mut used) = (interval(Duration::from_millis(20)), 0);
    let lost = loop {
        tokio::select! {
            lost = session.lost() => break lost,
            _ = looks.tick() => {
                let now = realtime_nanos();
                if session.check().is_ok() {
                    used = now;
                }
            }
        }
    };
    say("lost", &json!({ "why": lost.to_string(), "used": used }));
    if let Some(busy) = busy {
        busy.await.unwrap();
    }
    // What its own library answers, and what the agent does when it is asked all the same.
    let by_library = late(client, &id).await;
    say("late", &json!({ "library": by_library, "agent": late(&agent, &id).await }));
    looking_on.await.unwrap();
    // Until it is killed: only then does a life as a controller end.
    std::future::pending::<()>().await;
}

fn reach(agent: &str) -> AgentClient {
    let dialer = match agent.strip_prefix("link:") {
        Some(link) => {
            let link: Arc<str> = link.into();
            Dialer::from_fn(move || {
                let link = Arc::clone(&link);
                async move { TcpStream::connect(&*link).await }
            })
        }
        None => Dialer::to(&agent.parse::<Endpoint>().unwrap()),
    };
    AgentClient::new(&dialer, &Credentials::none())
}

fn udp() -> SocketSpec {
    let kind = Kind::Udp(UdpSpec { connect: None, groups: Vec::new(), probes: false });
    SocketSpec { kind, family: Some(Family::Ipv4), ..SocketSpec::tcp(TcpRole::Idle) }
}

/// Makes a socket; answers its local address, if it has one.
async fn create(agent: &AgentClient, session: &SessionId, id: &str, spec: SocketSpec) -> Result<String, ClientError> {
    let socket = Some(SocketId::parse(id).unwrap());
    let create = Action::CreateSocket { session: session.clone(), socket, spec: Box::new(spec) };
    let options = CallOptions { fail_on_error: true, ..CallOptions::default() };
    match agent.call(&create, &options).await?.yielded {
        Yield::Socket(socket, _) => Ok(socket.status.local.map(|local| local.to_string()).unwrap_or_default()),
        other => panic!("no socket: {other:?}"),
    }
}

fn target(session: &SessionId, id: &str) -> Target {
    Target { session: session.clone(), socket: SocketId::parse(id).unwrap(), uid: None }
}

/// Makes and closes sockets, and writes to a connection, for as long as it may.
async fn toil(agent: AgentClient, session: SessionId, mut line: FarStream) {
    let mut rounds = interval(ROUND);
    for round in 0_u64.. {
        rounds.tick().await;
        let id = format!("busy-{round}");
        let close = SocketAction::Close { linger: None, allow_missing: false };
        let close = Action::Socket(target(&session, &id), close);
        let done = async {
            create(&agent, &session, &id, udp()).await.map_err(std::io::Error::from)?;
            agent.call(&close, &CallOptions::default()).await.map_err(std::io::Error::from)?;
            line.write_all(&[7; 100]).await
        };
        if done.await.is_err() {
            return;
        }
    }
}

/// Reads events, and says when it is cut off and when it is over.
async fn look_on(mut watch: Watch) {
    let mut cut_off = false;
    loop {
        match watch.next().await {
            Ok(Some(WatchItem::Interrupted { error, .. })) => {
                if !std::mem::replace(&mut cut_off, true) {
                    say("cut off", &json!(error.to_string()));
                }
            }
            Ok(Some(_)) => {}
            over => return say("over", &json!(format!("{over:?}"))),
        }
    }
}

/// What becomes of calls that come too late, whatever they are: in one word each.
async fn late(agent: &AgentClient, session: &SessionId) -> Vec<String> {
    let close = SocketAction::Close { linger: None, allow_missing: true };
    let write = SocketAction::Write {
        payload: "late".into(),
        expected_offset: None,
        flags: farsock::model::operation::WriteFlags::default(),
        slices: None,
    };
    let mut actions = vec![
        Action::CreateSocket { session: session.clone(), socket: None, spec: Box::new(udp()) },
        Action::ResetSession { session: session.clone() },
    ];
    actions.extend([close, write, SocketAction::Flush].map(|action| Action::Socket(target(session, "line"), action)));
    let mut answers = Vec::new();
    for action in actions {
        let answer = loop {
            match agent.call(&action, &CallOptions::default()).await {
                // The link is not there again yet.
                Err(ClientError::Unreachable { .. }) => tokio::task::yield_now().await,
                Err(ClientError::LeaseLost { .. }) => break "lease lost".to_owned(),
                Err(ClientError::Refused { reason, .. }) => break reason,
                other => break format!("{other:?}"),
            }
        };
        answers.push(answer);
    }
    answers
}

/// A path as the command line has it.
pub fn at(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}
