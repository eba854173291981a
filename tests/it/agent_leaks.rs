//! After thousands of sockets, sessions, watches and operations nothing is left: no descriptor, no task, no thread.
//!
//! `FARSOCK_LONG=1`: a hundred thousand of them.

use farsock::agent::AgentConfig;
use farsock::wire::pb;
use tokio::runtime::Handle;

use crate::harness::frames::becomes;
use crate::harness::tcp::{any_port, connecting_to, went};
use crate::harness::{Agent, AgentProcess, DeadPort, LOOPBACKS, detached, long};

fn cycles(quick: usize) -> usize {
    if long() { 50 * quick } else { quick }
}

/// One round of a lab's life, which ends as it began. What it is depends on its number.
async fn round(agent: &Agent, number: usize) {
    let ip = LOOPBACKS[number / 8 % 2];
    match number % 8 {
        // A connection, both of its ends here, closed in good order or not.
        0 => {
            let door = agent.listen("door", &any_port(ip)).await;
            agent.connect("line", &door).await;
            let written = agent.try_write("line", "hola").await.unwrap().report.unwrap().last_event_seq;
            assert_eq!(agent.receive_text("door.1").await, "hola");
            agent.abort("line").await;
            // Of this `door.1`, and not of one of an earlier round, all of which are in the log.
            agent.event_after("door.1", "peer_reset", written).await;
            agent.reset("").await;
        }
        // A connect to nobody.
        1 => {
            let nobody = DeadPort::tcp(ip);
            let refused = agent.create_tcp("line", connecting_to(&nobody.text())).await;
            assert_eq!(went(&refused), "ECONNREFUSED");
            agent.close("line").await;
        }
        // A session with something in it.
        2 => {
            agent.create_session("lab").await.unwrap();
            agent.udp_in("lab", "s").await;
            assert_eq!(agent.delete("lab", false).await.unwrap().closed_sockets.len(), 1);
        }
        // A watch that its reader leaves while events are on their way to him: those of the last rounds, not of all.
        3 => {
            let session = agent.sessions().get_session(pb::GetSessionRequest::default()).await.unwrap().into_inner();
            let after_event_seq = Some(session.session.unwrap().head_event_seq.saturating_sub(100));
            let request = pb::WatchEventsRequest { after_event_seq, ..Default::default() };
            agent.watch(request).await.unwrap().opened().await;
        }
        // An operation that is cancelled while it waits.
        4 => {
            agent.udp("s", ip).await;
            let (id, name) = ("s".into(), format!("wait-{number}"));
            let request = pb::ReceiveSocketRequest { socket_id: id, call: Some(detached(&name)), ..Default::default() };
            agent.receive_socket(request).await.unwrap();
            agent.cancel_call(&name).await.unwrap();
            agent.close("s").await;
        }
        // Something is refused.
        5 => assert_eq!(went(&agent.create_tcp("No", pb::TcpSocketSpec::default()).await), "INVALID_FIELD"),
        _ => {
            agent.udp("s", ip).await;
            agent.close("s").await;
        }
    }
}

#[tokio::test]
async fn a_process_ends_with_as_many_descriptors_and_threads_as_it_began() {
    let agent = AgentProcess::start().await;
    let client = agent.agent();
    for number in 0..64 {
        round(&client, number).await;
    }
    let (descriptors, threads) = (agent.descriptors(), agent.threads().len());
    let early = agent.memory();
    for number in 0..cycles(2000) {
        round(&client, number).await;
    }
    becomes("as many descriptors as before", || async { agent.descriptors() == descriptors }).await;
    // Threads for what blocks come and go; there are never more of them than there is such work at a time.
    let now = agent.threads().len();
    assert!(now <= threads + 1, "{threads} and {now}");
    println!("{} cycles: {early} bytes of memory before, {} after", cycles(2000), agent.memory());
    drop(client);
    agent.stop().await;
}

#[tokio::test]
async fn a_runtime_ends_with_as_many_tasks_as_it_began() {
    let agent = Agent::start_with(AgentConfig::default()).await;
    for number in 0..64 {
        round(&agent, number).await;
    }
    let tasks = || Handle::current().metrics().num_alive_tasks();
    // What the first rounds have left behind goes, too: then there is only what is always there.
    let settled = async || {
        let mut least = usize::MAX;
        for _ in 0..200 {
            agent.open_sockets().await;
            least = least.min(tasks());
        }
        least
    };
    let before = settled().await;
    for number in 0..cycles(2000) {
        round(&agent, number).await;
    }
    becomes("as many tasks as before", || async { tasks() <= before }).await;
    agent.stop().await;
}
