//! The kernel's queue of a listener: who waits in it is counted, and who finds no room gets no answer.

use farsock::wire::pb;

use crate::harness::tcp::{Reported, any_port, connecting_to, timeout};
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

fn manual(backlog: u32) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { backlog: Some(backlog), accept: pb::AcceptPolicy::Manual.into(), ..Default::default() }
}

async fn queue(agent: &Agent, id: &str) -> (u32, u32) {
    let listener = agent.socket(id).await.listener.unwrap();
    (listener.queue_length.unwrap(), listener.queue_limit.unwrap())
}

async fn accept(agent: &Agent, id: &str) -> pb::AcceptSocketResponse {
    let request = pb::AcceptSocketRequest { socket_id: id.into(), ..Default::default() };
    agent.accept_socket(request).await.unwrap()
}

#[tokio::test]
async fn those_who_wait_are_counted() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let door = format!("door-{at}");
        let address = agent.listen_with(&door, &any_port(ip), manual(5)).await;
        assert_eq!(queue(&agent, &door).await, (0, 5));
        let mut peers = Vec::new();
        for count in 1..=3 {
            peers.push(TcpPeer::connect(&address).await);
            agent.until(&door, "one more", |door| door.listener.unwrap().queue_length() == count).await;
        }
        // Who has gone again waits all the same: accept(2) gives a connection that has ended.
        drop(peers);
        for left in [2, 1, 0] {
            assert_eq!(accept(&agent, &door).await.went(), "ok");
            assert_eq!(queue(&agent, &door).await, (left, 5));
        }
        let listed = agent.sockets().list_sockets(pb::ListSocketsRequest::default()).await.unwrap().into_inner();
        let child = listed.sockets.into_iter().find(|socket| socket.parent_id == door).unwrap();
        assert_eq!(child.listener, None, "a connection has no queue, whatever these fields mean of it");
    }
}

#[tokio::test]
async fn who_finds_the_queue_full_gets_no_answer_until_there_is_room() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let door = format!("door-{at}");
        let mark = format!("before-{at}");
        overflows(&agent, &mark, "").await;
        let address = agent.listen_with(&door, &any_port(ip), manual(1)).await;
        // One more than the limit.
        let _queued = [TcpPeer::connect(&address).await, TcpPeer::connect(&address).await];
        agent.until(&door, "a full queue", |door| door.listener.unwrap().queue_length() == 2).await;
        let late = pb::CreateSocketRequest {
            socket_id: format!("late-{at}"),
            kind: Some(pb::create_socket_request::Kind::Tcp(connecting_to(&address))),
            call: timeout(100),
            ..Default::default()
        };
        assert_eq!(agent.create_socket(late).await.unwrap().went(), "timed out");
        assert_eq!(queue(&agent, &door).await, (2, 1));
        // Others count along.
        assert!(overflows(&agent, "", &mark).await >= 1);

        assert_eq!(accept(&agent, &door).await.went(), "ok");
        let _in_time = TcpPeer::connect(&address).await;
        assert_eq!(queue(&agent, &door).await, (2, 1));
    }
}

async fn overflows(agent: &Agent, mark: &str, since: &str) -> i64 {
    let names = vec!["TcpExtListenOverflows".to_owned()];
    let request = pb::GetKernelCountersRequest { names, mark: mark.into(), since: since.into() };
    agent.agent().get_kernel_counters(request).await.unwrap().into_inner().counters[0].value
}

/// Where nothing waits because nothing can, there is no queue.
#[tokio::test]
async fn only_what_listens_has_a_queue() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let door = format!("door-{at}");
        agent.listen(&door, &any_port(ip)).await;
        agent.shut_down(&door, pb::ShutdownHow::Receive).await;
        let listener = agent.socket(&door).await.listener.unwrap();
        assert_eq!((listener.queue_length, listener.queue_limit), (None, None));
    }
}
