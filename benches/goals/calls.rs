//! G1: calls. `GetSocket` beside a bare call of the same messages, whose answer is ready made; and beside one whose question and answer have as
//! many bytes, in one field.

use bytes::Bytes;
use farsock::wire::pb::tcp_socket_spec::Role;

use crate::agent::{GetSocket, TestAgent, create_tcp};
use crate::bare::{Answer, BareClient, BareServer, SameMessages};
use crate::certificates::Certificates;
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
    let answer = Answer { data: Bytes::from(socket), ..Answer::default() };
    let bare = BareServer::start(KIND, answer.clone());

    // Certificates on both sides of both, and beside a bare side without any: what the whole of TLS costs.
    let certificates = Certificates::issue();
    let bare_tls = bare.with_certificates(answer, &certificates);
    let (tls_agent, tls) = TestAgent::start_tls(KIND, &certificates, None);
    // And a policy, which is asked at each call, with an audit of changes.
    let (course_agent, course) = TestAgent::start_tls(KIND, &certificates, Some(POLICY));
    for (agent, address) in [(&tls_agent, &tls), (&course_agent, &course)] {
        let (mut sockets, remote) = (agent.sockets(&client, address.clone()), peer.addr().to_string());
        client.run(async move { create_tcp(&mut sockets, "", "line", Role::Connect(remote)).await });
    }

    for (way, agent, ours, theirs) in [
        ("TCP", &agent, agent.tcp(), bare.tcp()),
        ("Unix socket", &agent, agent.unix(), bare.unix()),
        ("certificates", &tls_agent, tls.clone(), bare_tls.clone()),
        ("certificates and a policy", &course_agent, course, bare_tls),
        ("certificates beside none", &tls_agent, tls, bare.tcp()),
    ] {
        let ours = GetSocket { sockets: agent.sockets(&client, ours), id: "line" };
        let theirs = bare_client(&client, theirs, asked);
        let same = SameMessages(theirs.clone(), ours.request());
        for in_flight in IN_FLIGHT {
            let ours = || measure(&client, &ours, in_flight, "agent");
            let theirs = || measure(&client, &theirs, in_flight, "bare");
            let same = || measure(&client, &same, in_flight, "bare");
            let (ours, beside) = interleave(ours, || (same(), theirs()));
            let (same, theirs): (Vec<Round>, Vec<Round>) = beside.into_iter().unzip();
            let way = format!("{way}, {in_flight} in flight");
            show(&way, "bare, same messages", &ours, &same);
            show_costs(&way, "bare, same messages", &ours, &same);
            show(&way, "bare, one field", &ours, &theirs);
            show_costs(&way, "bare, one field", &ours, &theirs);
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

fn show(way: &str, beside: &str, ours: &[Round], theirs: &[Round]) {
    let line = |figure: &str, show, wanted, of: fn(&Calls) -> f64| {
        let figures = |rounds: &[Round]| rounds.iter().map(|round| of(&round.calls)).collect::<Vec<f64>>();
        let what = format!("GetSocket, {way}, {figure}");
        Figure { goal: "G1", what: &what, beside, show, wanted }.print(&figures(ours), &figures(theirs));
    };
    line("calls", rate, WANTED[0], |calls| calls.rate);
    line("p50", time, WANTED[1], |calls| calls.p50);
    line("p99", time, WANTED[2], |calls| calls.p99);
}

/// What a call costs the server's thread: what other work on the machine changes least.
fn show_costs(way: &str, beside: &str, ours: &[Round], theirs: &[Round]) {
    let costs = |rounds: &[Round]| rounds.iter().map(|round| round.cost).collect::<Option<Vec<f64>>>();
    if let (Some(ours), Some(theirs)) = (costs(ours), costs(theirs)) {
        let what = format!("GetSocket, {way}, server's time for a call");
        Figure { goal: "G1", what: &what, beside, show: short, wanted: "–" }.print(&ours, &theirs);
    }
}
