//! A link that breaks: a TCP proxy in front of an agent, which does to each connection what the test says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What becomes of a connection. Bytes are counted each way by themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fault {
    /// The connection is reset after so many bytes of the agent's.
    pub cut_answers_after: Option<u64>,
    /// The connection is reset after so many bytes of the client's.
    pub cut_questions_after: Option<u64>,
    /// After so many bytes of the agent's, no more are passed on, and nobody is told.
    pub drop_answers_after: Option<u64>,
    /// Each piece of the agent's comes so much later.
    pub delay: Duration,
}

/// A proxy. It ends with its connections when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    cuts: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Leads to this address. `fault` says what becomes of each connection, by its number from 0 on.
    pub async fn start(agent: SocketAddr, mut fault: impl FnMut(usize) -> Fault + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let cuts = watch::Sender::new(());
        let links_cut = cuts.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut links = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let fault = fault(count.fetch_add(1, Ordering::Relaxed));
                let mut cut = links_cut.subscribe();
                links.spawn(async move {
                    tokio::select! {
                        () = carry(client, agent, fault) => {}
                        _ = cut.changed() => {}
                    }
                });
                while links.try_join_next().is_some() {}
            }
        });
        Self { address, connections, cuts, _tasks: tasks }
    }

    /// Resets all connections that there are now.
    pub fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Carries bytes both ways until one end has gone, or the fault has come.
async fn carry(client: TcpStream, agent: SocketAddr, fault: Fault) {
    // An agent that is not there is a connection that ends.
    let Ok(agent) = TcpStream::connect(agent).await else { return };
    for stream in [&client, &agent] {
        stream.set_nodelay(true).unwrap();
        // Whichever way it ends, it is a cut.
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_agent, mut to_agent) = agent.into_split();
    let answers = Way { cut_after: fault.cut_answers_after, drop_after: fault.drop_answers_after, delay: fault.delay };
    let questions = Way { cut_after: fault.cut_questions_after, drop_after: None, delay: Duration::ZERO };
    tokio::select! {
        () = answers.carry(&mut from_agent, &mut to_client) => {}
        () = questions.carry(&mut from_client, &mut to_agent) => {}
    }
}

struct Way {
    cut_after: Option<u64>,
    drop_after: Option<u64>,
    delay: Duration,
}

impl Way {
    /// Returns when the connection is to be cut, or is over anyway.
    async fn carry(&self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let (mut passed, mut buffer) = (0, vec![0; 64 * 1024]);
        let left = |after: Option<u64>, passed: u64| {
            after.map_or(usize::MAX, |after| usize::try_from(after - passed).unwrap())
        };
        while let Ok(size @ 1..) = from.read(&mut buffer).await {
            if !self.delay.is_zero() {
                sleep_until(Instant::now() + self.delay).await;
            }
            let size = size.min(left(self.cut_after, passed));
            let shown = size.min(left(self.drop_after, passed.min(self.drop_after.unwrap_or(passed))));
            passed += size as u64;
            if to.write_all(&buffer[..shown]).await.is_err() || self.cut_after == Some(passed) {
                return;
            }
        }
    }
}
