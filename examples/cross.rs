//! The Rust end of the exercise that all clients play with each other; `clients/cross/run` starts it.
//!
//! A server prints the addresses of a listener and of a UDP socket, serves one connection and one datagram, and ends. A client talks to both.

use std::env;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use farsock::client::{AgentClient, Credentials, Dialer};
use farsock::model::address::{AddressText, Endpoint};
use farsock::model::delivery::DeliveryMode;
use farsock::model::id::{SessionId, SocketId};
use farsock::model::operation::{
    Action, CallOptions, OutgoingDatagram, SendFlags, SocketAction, Take, Taken, Target, Yield,
};
use farsock::model::spec::{Kind, SocketSpec, TcpRole, UdpSpec};
use farsock::model::view::SocketView;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["server", agent, address] => server(&reach(agent)?, address.parse()?).await,
        ["client", agent, tcp, udp] => client(&reach(agent)?, tcp, udp).await,
        _ => Err("cross server AGENT ADDRESS, or cross client AGENT TCP UDP".into()),
    }
}

fn reach(agent: &str) -> Result<AgentClient> {
    Ok(AgentClient::new(&Dialer::to(&agent.parse()?), &Credentials::none()))
}

async fn server(agent: &AgentClient, address: IpAddr) -> Result<()> {
    let session = SessionId::default();
    let any = parse(&SocketAddr::new(address, 0).to_string())?;
    let mut door = agent.listen(&session, None, SocketSpec::tcp(TcpRole::Listen(Some(any.clone())))).await?;
    let mail = udp(agent, Some(any)).await?;
    println!("{} {}", text(door.local())?, text(mail.status.local.as_ref())?);

    let mut line = door.accept().await?;
    let mut bytes = Vec::new();
    line.read_to_end(&mut bytes).await?;
    line.write_all(hash(&bytes).as_bytes()).await?;
    line.shutdown().await?;

    let asked = receive(agent, &mail).await?;
    send(agent, &mail, text(asked.source.as_ref())?.as_str(), asked.payload).await?;
    door.close().await?;
    Ok(())
}

async fn client(agent: &AgentClient, tcp: &str, udp_address: &str) -> Result<()> {
    let (session, options) = (SessionId::default(), CallOptions::default());
    let spec = SocketSpec::tcp(TcpRole::Connect(parse(tcp)?));
    let mut line = agent.connect(&session, None, spec, &options).await?;
    let bytes: Vec<u8> = (0..1 << 20_u32).map(|at: u32| (at * 31 + at / 251).to_le_bytes()[0]).collect();
    line.write_all(&bytes).await?;
    line.shutdown().await?;
    let mut answer = String::new();
    line.read_to_string(&mut answer).await?;
    same(&answer, &hash(&bytes))?;

    let local = line.local().map(|local| parse(&SocketAddr::new(local.addr.ip(), 0).to_string()));
    let ask = udp(agent, local.transpose()?).await?;
    send(agent, &ask, udp_address, Bytes::from_static(b"hola")).await?;
    same(std::str::from_utf8(&receive(agent, &ask).await?.payload)?, "hola")
}

async fn udp(agent: &AgentClient, bind: Option<AddressText>) -> Result<Box<SocketView>> {
    let usual = SocketSpec::tcp(TcpRole::Idle);
    let mut spec =
        SocketSpec { kind: Kind::Udp(UdpSpec { connect: None, groups: Vec::new(), probes: false }), bind, ..usual };
    spec.conduct.delivery.mode = DeliveryMode::Pull;
    let create = Action::CreateSocket { session: SessionId::default(), socket: None, spec: Box::new(spec) };
    match agent.call(&create, &CallOptions::default()).await?.yielded {
        Yield::Socket(socket, _) => Ok(socket),
        other => Err(format!("no socket: {other:?}").into()),
    }
}

async fn send(agent: &AgentClient, socket: &SocketView, to: &str, payload: Bytes) -> Result<()> {
    let destination = Some(parse(to)?);
    let datagram = OutgoingDatagram { destination, payload, ..OutgoingDatagram::default() };
    act(
        agent,
        &socket.id,
        SocketAction::Send { datagrams: vec![datagram], interval: Duration::ZERO, flags: SendFlags::default() },
    )
    .await
    .map(drop)
}

async fn receive(agent: &AgentClient, socket: &SocketView) -> Result<Taken> {
    match act(agent, &socket.id, SocketAction::Receive(Take::default())).await? {
        Yield::Taken(_, taken) => Ok(taken),
        other => Err(format!("no datagram: {other:?}").into()),
    }
}

async fn act(agent: &AgentClient, socket: &SocketId, what: SocketAction) -> Result<Yield> {
    let target = Target { session: SessionId::default(), socket: socket.clone(), uid: None };
    let options = CallOptions { fail_on_error: true, ..CallOptions::default() };
    Ok(agent.call(&Action::Socket(target, what), &options).await?.yielded)
}

fn parse(address: &str) -> Result<AddressText> {
    AddressText::parse(address).map_err(|problem| problem.to_string().into())
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(endpoint: Option<&Endpoint>) -> Result<String> {
    Ok(endpoint.ok_or("no address")?.to_string())
}

fn same(got: &str, wanted: &str) -> Result<()> {
    if got == wanted { Ok(()) } else { Err(format!("`{got}`, and not `{wanted}`").into()) }
}
