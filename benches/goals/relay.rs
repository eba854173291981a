//! Plain peers of lab sockets: one that echoes, one that sends, one that counts, and socat between them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::side::{Kind, Side};

/// How much a sender hands to the kernel at a time.
const PIECE: usize = 1 << 20;

/// A peer that sends back what it gets, on each connection.
pub(crate) struct EchoPeer {
    addr: SocketAddr,
    _side: Side,
}

impl EchoPeer {
    /// Starts one.
    pub(crate) fn start(kind: Kind) -> Self {
        let side = Side::start("peer", kind);
        let addr = side.run(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(echo(stream));
                }
            });
            addr
        });
        Self { addr, _side: side }
    }

    /// Where it is.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

async fn echo(mut stream: tokio::net::TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 4096];
    // Whichever way it ends, this connection is over.
    while let Ok(size @ 1..) = stream.read(&mut buffer).await
        && stream.write_all(&buffer[..size]).await.is_ok()
    {}
}

/// Sends as fast as it goes for so long, then ends the connection in good order.
pub(crate) fn send_for(to: SocketAddr, span: Duration) -> JoinHandle<()> {
    thread::spawn(move || send(&mut TcpStream::connect(to).unwrap(), span))
}

fn send(stream: &mut TcpStream, span: Duration) {
    let piece = vec![7; PIECE];
    let start = Instant::now();
    while start.elapsed() < span {
        stream.write_all(&piece).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    // Until the other side has got it all.
    let _ = stream.read(&mut [0]);
}

/// A peer that sends for a while to whoever connects first.
pub(crate) struct Sender(SocketAddr);

impl Sender {
    /// Starts one.
    pub(crate) fn start(span: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || send(&mut listener.accept().unwrap().0, span));
        Self(addr)
    }

    /// Where it is.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.0
    }
}

/// A peer that reads what whoever connects first sends.
pub(crate) struct Receiver {
    addr: SocketAddr,
    received: JoinHandle<f64>,
}

impl Receiver {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        Self { addr, received: thread::spawn(move || receive(&mut listener.accept().unwrap().0)) }
    }

    /// Where it is.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many bytes it got in all.
    pub(crate) fn received(self) -> f64 {
        self.received.join().unwrap()
    }
}

/// Reads to the end; answers how many bytes came.
fn receive(stream: &mut TcpStream) -> f64 {
    let mut piece = vec![0; PIECE];
    let mut total = 0.0;
    while let Ok(size @ 1..) = stream.read(&mut piece) {
        #[allow(clippy::cast_precision_loss, reason = "a piece is small")]
        let more = size as f64;
        total += more;
    }
    total
}

/// socat, from one connection that comes to another that it makes.
pub(crate) struct Socat(Child);

impl Socat {
    /// Whether there is one here.
    pub(crate) fn is_there() -> bool {
        Command::new("socat").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Relays a sender's bytes for so long; answers how many bytes came out a second.
    pub(crate) fn relay(buffer: usize, span: Duration) -> f64 {
        let out = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut socat, into) = Self::start(buffer, out.local_addr().unwrap());
        let sender = send_for(into, span);
        let (mut stream, _) = out.accept().unwrap();
        let start = Instant::now();
        let total = receive(&mut stream);
        let rate = total / start.elapsed().as_secs_f64();
        drop(stream);
        sender.join().unwrap();
        socat.0.wait().unwrap();
        rate
    }

    /// Starts it, and finds out from what it says which port the kernel gave it.
    fn start(buffer: usize, out: SocketAddr) -> (Self, SocketAddr) {
        let mut command = Command::new("socat");
        command.args(["-d", "-d", "-b", &buffer.to_string(), "TCP-LISTEN:0,bind=127.0.0.1", &format!("TCP:{out}")]);
        let mut socat = Self(command.stderr(Stdio::piped()).spawn().unwrap());
        let mut said = BufReader::new(socat.0.stderr.take().unwrap());
        let mut line = String::new();
        while said.read_line(&mut line).unwrap() > 0 {
            if let Some((_, addr)) = line.trim().split_once("listening on AF=2 ") {
                let addr = addr.parse().unwrap();
                // It must be able to go on talking.
                thread::spawn(move || io::copy(&mut said, &mut io::sink()));
                return (socat, addr);
            }
            line.clear();
        }
        panic!("socat does not say where it listens");
    }
}

impl Drop for Socat {
    fn drop(&mut self) {
        // It has ended by itself, unless the bench has not.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
