//! HTTP/2 spoken by hand, for what no honest client sends. RFC 9113.

use std::future::Future;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::within;

/// Frame types. RFC 9113, section 6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const UNKNOWN: u8 = 200;

/// Flags of HEADERS, and of DATA.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the agent said on a connection, and how it ended it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The error code and the words of the last GOAWAY.
    pub goaway: Option<(u32, String)>,
    /// How many frames came: type and stream of each, up to a thousand.
    pub frames: Vec<(u8, u32)>,
}

/// A connection whose frames are made by hand.
pub struct RawHttp2 {
    out: BufWriter<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What the agent has said so far: it is read at once, so that it is never the agent that waits.
    said: watch::Receiver<Ending>,
}

impl RawHttp2 {
    /// Connects, and says nothing.
    pub async fn silent(address: &str) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (input, out) = stream.into_split();
        Self::over(input, Box::new(out))
    }

    fn over(input: impl AsyncRead + Send + Unpin + 'static, out: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        let (tell, said) = watch::channel(Ending::default());
        tokio::spawn(read(BufReader::new(input), tell));
        Self { out: BufWriter::with_capacity(1 << 16, out), said }
    }

    /// Connects, and greets as every client does.
    pub async fn greeted(address: &str) -> Self {
        Self::silent(address).await.greet().await
    }

    /// Greets over a connection that is there already.
    pub async fn greeted_over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (input, out) = tokio::io::split(stream);
        Self::over(input, Box::new(out)).greet().await
    }

    async fn greet(mut self) -> Self {
        self.bytes(PREFACE).await;
        self.frame(SETTINGS, 0, 0, &[]).await;
        self.flush().await;
        self
    }

    /// Sends bytes, whatever they are. That nobody takes them any more is what many tests wait for.
    pub async fn bytes(&mut self, bytes: &[u8]) -> bool {
        within("room to write", self.out.write_all(bytes)).await.is_ok()
    }

    /// Sends the first so many bytes of the preface.
    pub async fn part_of_preface(&mut self, size: usize) {
        self.bytes(&PREFACE[..size]).await;
        self.flush().await;
    }

    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![size[1], size[2], size[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.bytes(&frame).await
    }

    pub async fn flush(&mut self) -> bool {
        within("room to write", self.out.flush()).await.is_ok()
    }

    /// Sends frames until the agent has had enough, or until there have been so many of them.
    pub async fn flood(&mut self, rounds: u32, mut send: impl AsyncFnMut(&mut Self, u32) -> bool) {
        for round in 0..rounds {
            if self.said.has_changed().is_err() || !send(self, round).await {
                break;
            }
        }
        self.flush().await;
    }

    /// Waits until the agent has said something.
    pub async fn hears(&mut self, what: &str, so: impl FnMut(&Ending) -> bool) {
        self.flush().await;
        within(what, self.said.wait_for(so)).await.expect(what);
    }

    /// Waits until the agent has ended the connection.
    pub async fn ending(mut self) -> Ending {
        // The sender is gone when there is nothing more to read.
        within("the end of the connection", async { while self.said.changed().await.is_ok() {} }).await;
        self.said.borrow().clone()
    }

    /// Has no more to say, and waits until the agent has none either.
    pub async fn finish(mut self) -> Ending {
        // It may have ended the connection already.
        let _ = self.out.shutdown().await;
        self.ending().await
    }
}

async fn read(mut input: BufReader<impl AsyncRead + Unpin>, tell: watch::Sender<Ending>) {
    let mut head = [0; 9];
    // An error is a reset: an end like another.
    while input.read_exact(&mut head).await.is_ok() {
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; size.try_into().unwrap()];
        if input.read_exact(&mut payload).await.is_err() {
            break;
        }
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        tell.send_modify(|said| {
            if said.frames.len() < 1000 {
                said.frames.push((head[3], stream));
            }
            if head[3] == GOAWAY {
                let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
                said.goaway = Some((code, String::from_utf8_lossy(&payload[8..]).into_owned()));
            }
        });
    }
}

/// The headers of a call, spelled out: HPACK literals without an index. RFC 7541, section 6.2.2.
pub fn headers(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "agent"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in usual.iter().chain(more) {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

/// One more header, which whoever reads it keeps in the table of its connection: HPACK with incremental indexing. RFC 7541, section 6.2.1.
pub fn kept_header(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0x40];
    string(&mut block, name);
    string(&mut block, value);
    block
}

/// The header that was kept last, in one byte: the 61 entries of the static table come before it. RFC 7541, section 6.1.
pub const KEPT_HEADER: u8 = 0x80 | 62;

/// A string without Huffman's code: its length in 7 bits and as many more as it takes, then its bytes. RFC 7541, sections 5.1 and 5.2.
fn string(block: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend(text.as_bytes());
}

/// Waits until nothing of a test in this process goes on: no task is left, and so nothing that one has open.
pub async fn no_task_is_left() {
    becomes("the end of all tasks", || async { Handle::current().metrics().num_alive_tasks() == 0 }).await;
}

/// Polls something again and again until it is so. What is looked at changes by itself, and soon.
pub async fn becomes<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    within(what, async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
