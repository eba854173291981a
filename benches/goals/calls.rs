//! G1: calls. `GetSocket` beside a bare call whose question and answer have as many bytes.

use bytes::Bytes;
use farsock::wire::pb::tcp_socket_spec::Role;

use crate::agent::{GetSocket, TestAgent, create_tcp};
use crate::bare::{Answer, BareClient, BareServer};
use crate::channel::{Address, CALL_WINDOWS};
use crate::load::{Caller, Calls, load};
use crate::relay::EchoPeer;
use crate::rounds::{Figure, interleave, rate, span, time};
use crate::side::{Kind, Side};

/// The runtime of all that is measured here.
const KIND: Kind = Kind::OneWorker;
/// How many calls are in flight.
const IN_FLIGHT: [usize; 3] = [1, 16, 128];
/// Who may do what, where it is asked.
const POLICY: &str = "policy: Bench
principals: { bench: student }
rules: [{ allow: any, addresses: loopback }]
";
/// What protobuf puts before bytes of such sizes: a tag and a length.
const HEAD: usize = 3;

pub(crate) fn run() {
    let peer = EchoPeer::start(KIND);
    let agent = TestAgent::start(KIND);
    let client = Side::start("client", KIND);
    let remote = peer.addr().to_string();
    let mut sockets = agent.sockets(&client, agent.tcp());
    let (asked, answered) = client.run(async move {
        create_tcp(&mut sockets, "", "line", Role::Connect(remote)).await;
        GetSocket { sockets, id: "line" }.sizes().await
    });
    let answer = Answer { data: Bytes::from(vec![7; answered - HEAD]), ..Answer::default() };
    let bare = BareServer::start(KIND, answer);
    println!("G1 GetSocket: {asked} bytes asked, {answered} answered, {}", KIND.name());

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
        for in_flight in IN_FLIGHT {
            let (ours, theirs) =
                interleave(|| measure(&client, &ours, in_flight), || measure(&client, &theirs, in_flight));
            show(&format!("{way}, {in_flight} in flight"), &ours, &theirs);
        }
    }
}

fn bare_client(client: &Side, address: Address, asked: usize) -> BareClient {
    BareClient::new(client.run(address.channel(CALL_WINDOWS)), Bytes::from(vec![7; asked - 2]))
}

fn measure(client: &Side, caller: &impl Caller, in_flight: usize) -> Calls {
    client.run(load(caller.clone(), in_flight, span()))
}

fn show(what: &str, ours: &[Calls], theirs: &[Calls]) {
    let line = |figure: &str, show, wanted, of: fn(&Calls) -> f64| {
        let (ours, theirs): (Vec<f64>, Vec<f64>) = (ours.iter().map(of).collect(), theirs.iter().map(of).collect());
        let what = format!("GetSocket, {what}, {figure}");
        Figure { goal: "G1", what: &what, beside: "bare", show, wanted }.print(&ours, &theirs);
    };
    line("calls", rate, "≥ 0.95", |calls| calls.rate);
    line("p50", time, "–", |calls| calls.p50);
    line("p99", time, "≤ 1.10", |calls| calls.p99);
}
