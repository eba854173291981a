//! G1: calls. `GetSocket` beside a bare call whose question and answer have as many bytes, which its client reads as one piece of bytes; and
//! beside the same bare call whose client reads what GetSocket answers: reading it is not the agent's work.

use bytes::Bytes;
use farsock::wire::pb::tcp_socket_spec::Role;

use crate::agent::{GetSocket, TestAgent, create_tcp};
use crate::bare::{Answer, BareClient, BareServer, ReadyMade};
use crate::channel::{Address, CALL_WINDOWS};
use crate::load::{Caller, Calls, load};
use crate::relay::EchoPeer;
use crate::rounds::{Figure, interleave, rate, short, span, time};
use crate::side::{Kind, Side, time_of};

/// The runtime of all that is measured here.
const KIND: Kind = Kind::OneWorker;
/// How many calls are in flight.
const IN_FLIGHT: [usize; 3] = [1, 16, 128];
/// Who may do what, where it is asked.
const POLICY: &str = "policy: Bench
principals: { bench: student }
rules: [{ allow: any, addresses: loopback }]
";

/// What was measured in one round.
struct Round {
    calls: Calls,
    /// The server's processor time for each call, in seconds.
    cost: Option<f64>,
}

pub(crate) fn run() {
    let peer = EchoPeer::start(KIND);
    let agent = TestAgent::start(KIND);
    let client = Side::start("client", KIND);
    let remote = peer.addr().to_string();
    let mut sockets = agent.sockets(&client, agent.tcp());
    let (asked, socket) = client.run(async move {
        create_tcp(&mut sockets, "", "line", Role::Connect(remote)).await;
        GetSocket { sockets, id: "line" }.sample().await
    });
    println!("G1 GetSocket: {asked} bytes asked, {} answered, {}", socket.len(), KIND.name());
    let bare = BareServer::start(KIND, Answer { data: Bytes::from(socket), ..Answer::default() });

    // Certificates beside a bare side without any: what the whole of TLS costs.
    let (tls_agent, tls) = TestAgent::start_tls(KIND, None);
    // And a policy, which is asked at each call, with an audit of changes.
    let (course_agent, course) = TestAgent::start_tls(KIND, Some(POLICY));
    for (agent, address) in [(&tls_agent, &tls), (&course_agent, &course)] {
        let (mut sockets, remote) = (agent.sockets(&client, address.clone()), peer.addr().to_string());
        client.run(async move { create_tcp(&mut sockets, "", "line", Role::Connect(remote)).await });
    }

    for (way, agent, ours, theirs) in [
        ("TCP", &agent, agent.tcp(), bare.tcp()),
        ("Unix socket", &agent, agent.unix(), bare.unix()),
        ("certificates", &tls_agent, tls, bare.tcp()),
        ("certificates and a policy", &course_agent, course, bare.tcp()),
    ] {
        let ours = GetSocket { sockets: agent.sockets(&client, ours), id: "line" };
        let theirs = bare_client(&client, theirs, asked);
        let ready_made = ReadyMade(theirs.clone());
        for in_flight in IN_FLIGHT {
            let ours = || measure(&client, &ours, in_flight, "agent");
            let theirs = || measure(&client, &theirs, in_flight, "bare");
            let ready_made = || measure(&client, &ready_made, in_flight, "bare");
            let (ours, beside) = interleave(ours, || (theirs(), ready_made()));
            let (theirs, ready_made): (Vec<Round>, Vec<Round>) = beside.into_iter().unzip();
            let way = format!("{way}, {in_flight} in flight");
            show(&way, "bare", &ours, &theirs, WANTED);
            show(&way, "bare, same message", &ours, &ready_made, ["–"; 3]);
            show_costs(&way, &ours, &ready_made);
        }
    }
}

fn bare_client(client: &Side, address: Address, asked: usize) -> BareClient {
    BareClient::new(client.run(address.channel(CALL_WINDOWS)), Bytes::from(vec![7; asked - 2]))
}

fn measure(client: &Side, caller: &impl Caller, in_flight: usize, server: &str) -> Round {
    let before = time_of(server);
    let calls = client.run(load(caller.clone(), in_flight, span()));
    let cost = before.zip(time_of(server)).map(|(before, after)| (after - before) / calls.count);
    Round { calls, cost }
}

/// What the ratios of calls a second, of the median and of the p99 should be.
const WANTED: [&str; 3] = ["≥ 0.95", "–", "≤ 1.10"];

fn show(way: &str, beside: &str, ours: &[Round], theirs: &[Round], wanted: [&str; 3]) {
    let line = |figure: &str, show, wanted, of: fn(&Calls) -> f64| {
        let figures = |rounds: &[Round]| rounds.iter().map(|round| of(&round.calls)).collect::<Vec<f64>>();
        let what = format!("GetSocket, {way}, {figure}");
        Figure { goal: "G1", what: &what, beside, show, wanted }.print(&figures(ours), &figures(theirs));
    };
    line("calls", rate, wanted[0], |calls| calls.rate);
    line("p50", time, wanted[1], |calls| calls.p50);
    line("p99", time, wanted[2], |calls| calls.p99);
}

/// What a call costs the server's thread: what other work on the machine changes least.
fn show_costs(way: &str, ours: &[Round], theirs: &[Round]) {
    let costs = |rounds: &[Round]| rounds.iter().map(|round| round.cost).collect::<Option<Vec<f64>>>();
    if let (Some(ours), Some(theirs)) = (costs(ours), costs(theirs)) {
        let what = format!("GetSocket, {way}, server's time for a call");
        Figure { goal: "G1", what: &what, beside: "bare", show: short, wanted: "–" }.print(&ours, &theirs);
    }
}
