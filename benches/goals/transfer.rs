//! G4, and the other direction beside G3: bytes through a far stream of the client library, to a plain receiver and from a plain sender;
//! beside bare streams that have no lab socket.

use std::time::Instant;

use bytes::Bytes;
use farsock::client::{AgentClient, FarStream};
use farsock::model::address::AddressText;
use farsock::model::id::SessionId;
use farsock::model::operation::CallOptions;
use farsock::model::spec::{SocketSpec, TcpRole};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::agent::TestAgent;
use crate::bare::{Answer, BareClient, BareServer};
use crate::bulk::bare_stream;
use crate::channel::BULK_WINDOWS;
use crate::relay::{Receiver, Sender};
use crate::rounds::{Figure, bytes_rate, interleave, span};
use crate::side::{Kind, Side};

const KIND: Kind = Kind::OneWorker;
/// A message of the bare streams, and what is written at a time.
const MESSAGE: usize = 256 << 10;

/// Whether the client hands its bytes over as they are, or has them copied as every reader and writer has.
#[derive(Clone, Copy)]
enum By {
    Bytes,
    Copies,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "Bytes",
            Self::Copies => "AsyncRead and AsyncWrite",
        }
    }
}

/// Bytes of the controller to a lab socket.
pub(crate) fn run() {
    let agent = TestAgent::start(KIND);
    let bare = BareServer::start(KIND, Answer::default());
    let client = Side::start("client", KIND);
    let library = agent.client(&client);
    let stream = BareClient::new(client.run(bare.tcp().channel(BULK_WINDOWS)), Bytes::from(vec![7; MESSAGE]));
    for by in [By::Bytes, By::Copies] {
        let (ours, theirs) =
            interleave(|| client.run(upload(library.clone(), by)), || client.run(bare_upload(stream.clone())));
        let what = format!("client → far stream → receiver, {}", by.name());
        Figure { goal: "G4", what: &what, beside: "bare upload", show: bytes_rate, wanted: "≥ 0.60" }
            .print(&ours, &theirs);
    }
}

/// Bytes of a lab socket to the controller.
pub(crate) fn run_download() {
    let agent = TestAgent::start(KIND);
    let bare = BareServer::start(KIND, Answer { data: Bytes::from(vec![7; MESSAGE]), ..Answer::default() });
    let client = Side::start("client", KIND);
    let library = agent.client(&client);
    let stream = BareClient::new(client.run(bare.tcp().channel(BULK_WINDOWS)), Bytes::new());
    for by in [By::Bytes, By::Copies] {
        let (ours, theirs) =
            interleave(|| client.run(download(library.clone(), by)), || client.run(bare_stream(stream.clone())));
        let what = format!("sender → far stream → client, {}", by.name());
        Figure { goal: "G3", what: &what, beside: "bare stream", show: bytes_rate, wanted: "≥ 0.60" }
            .print(&ours, &theirs);
    }
}

async fn connect(library: &AgentClient, to: std::net::SocketAddr) -> FarStream {
    let spec = SocketSpec::tcp(TcpRole::Connect(AddressText::parse(&to.to_string()).unwrap()));
    library.connect(&SessionId::default(), None, spec, &CallOptions::default()).await.unwrap()
}

/// Writes for a while; answers how many bytes a second the receiver got, the last one included.
async fn upload(library: AgentClient, by: By) -> f64 {
    let receiver = Receiver::start();
    let mut stream = connect(&library, receiver.addr()).await;
    let message = Bytes::from(vec![7; MESSAGE]);
    let start = Instant::now();
    while start.elapsed() < span() {
        match by {
            By::Bytes => stream.write_bytes(&mut message.clone()).await.unwrap(),
            By::Copies => stream.write_all(&message).await.unwrap(),
        }
    }
    stream.shutdown().await.unwrap();
    // The receiver ends when it has everything.
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    receiver.received() / start.elapsed().as_secs_f64()
}

async fn bare_upload(mut client: BareClient) -> f64 {
    let start = Instant::now();
    let sent = client.upload(move || start.elapsed() < span()).await;
    sent / start.elapsed().as_secs_f64()
}

/// Reads what a sender sends for a while; answers how many bytes came a second.
async fn download(library: AgentClient, by: By) -> f64 {
    let sender = Sender::start(span());
    let mut stream = connect(&library, sender.addr()).await;
    let (start, mut got, mut buffer) = (Instant::now(), 0, vec![0; MESSAGE]);
    loop {
        let size = match by {
            By::Bytes => stream.read_bytes().await.unwrap().map_or(0, |piece| piece.len()),
            By::Copies => stream.read(&mut buffer).await.unwrap(),
        };
        if size == 0 {
            break;
        }
        got += size;
    }
    let seconds = start.elapsed().as_secs_f64();
    stream.shutdown().await.unwrap();
    #[allow(clippy::cast_precision_loss, reason = "a bench does not come to 2^53 bytes")]
    let got = got as f64;
    got / seconds
}
