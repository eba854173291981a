//! UDP, as tests speak of it: words for an agent's sockets, and plain sockets of the test itself.

use std::net::{IpAddr, SocketAddr};

use farsock::wire::pb;
use tokio::net::UdpSocket;

use super::{Agent, Refused, error_name, text, within};

/// An address with a port of the kernel's choice, in the form of requests.
pub fn any_port(ip: IpAddr) -> String {
    SocketAddr::new(ip, 0).to_string()
}

/// One datagram of text.
pub fn datagram(destination: &str, payload: &str) -> pb::Datagram {
    pb::Datagram { destination: destination.into(), payload: text(payload), ..Default::default() }
}

impl Agent {
    /// Makes a UDP socket that is bound to a port of the kernel's choice, and answers where.
    pub async fn udp(&self, id: &str, ip: IpAddr) -> String {
        self.udp_with(id, ip, pb::UdpSocketSpec::default()).await
    }

    pub async fn udp_with(&self, id: &str, ip: IpAddr, spec: pb::UdpSocketSpec) -> String {
        let created = self.create_udp(id, pb::UdpSocketSpec { bind: any_port(ip), ..spec }).await.unwrap();
        assert_eq!(error_name(created.report.as_ref()), "", "{created:?}");
        created.socket.unwrap().local.unwrap().text
    }

    /// Sends datagrams, all of which the kernel must take.
    pub async fn send(&self, id: &str, destination: &str, payload: &str) -> pb::SendDatagramsResponse {
        let sent = self.try_send(id, vec![datagram(destination, payload)]).await.unwrap();
        assert_eq!((error_name(sent.report.as_ref()), sent.datagrams_sent()), ("", 1), "{sent:?}");
        sent
    }

    pub async fn try_send(&self, id: &str, datagrams: Vec<pb::Datagram>) -> Result<pb::SendDatagramsResponse, Refused> {
        let request = pb::SendDatagramsRequest { socket_id: id.into(), datagrams, ..Default::default() };
        Ok(self.sockets().send_datagrams(request).await?.into_inner())
    }

    /// What the kernel said to one datagram; empty if it took it.
    pub async fn send_error(&self, id: &str, datagram: pb::Datagram) -> String {
        let sent = self.try_send(id, vec![datagram]).await.unwrap();
        error_name(sent.report.as_ref()).to_owned()
    }

    pub async fn connect_udp(&self, id: &str, remote: &str) -> pb::ConnectSocketResponse {
        let request = pb::ConnectSocketRequest { socket_id: id.into(), remote: remote.into(), ..Default::default() };
        self.sockets().connect_socket(request).await.unwrap().into_inner()
    }

    pub async fn disconnect(&self, id: &str) -> pb::DisconnectSocketResponse {
        let request = pb::DisconnectSocketRequest { socket_id: id.into(), ..Default::default() };
        self.sockets().disconnect_socket(request).await.unwrap().into_inner()
    }

    pub async fn bind(&self, id: &str, local: &str) -> pb::BindSocketResponse {
        let request = pb::BindSocketRequest { socket_id: id.into(), local: local.into(), ..Default::default() };
        self.sockets().bind_socket(request).await.unwrap().into_inner()
    }

    /// The datagram that an event after this number tells of.
    pub async fn datagram_after(&self, id: &str, after: u64) -> (u64, pb::DatagramReceivedEvent) {
        let event = self.event_after(id, "datagram_received", after).await;
        let Some(pb::event::Body::DatagramReceived(datagram)) = event.body else { panic!("{event:?}") };
        (event.event_seq, datagram)
    }

    /// The first datagram of a socket.
    pub async fn datagram(&self, id: &str) -> (u64, pb::DatagramReceivedEvent) {
        self.datagram_after(id, 0).await
    }
}

/// A plain UDP socket of the test.
pub struct UdpPeer(pub UdpSocket);

impl UdpPeer {
    pub async fn bind(ip: IpAddr) -> Self {
        Self(UdpSocket::bind((ip, 0)).await.unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Its address, in the form of requests.
    pub fn text(&self) -> String {
        self.address().to_string()
    }

    pub async fn send(&self, destination: &str, payload: &[u8]) {
        let to: SocketAddr = destination.parse().unwrap();
        assert_eq!(self.0.send_to(payload, to).await.unwrap(), payload.len());
    }

    /// The next datagram, and who sent it.
    pub async fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut bytes = vec![0; 65_536];
        let (size, from) = within("a datagram", self.0.recv_from(&mut bytes)).await.unwrap();
        bytes.truncate(size);
        (bytes, from)
    }

    /// The next datagram as text.
    pub async fn receive_text(&self) -> (String, SocketAddr) {
        let (bytes, from) = self.receive().await;
        (String::from_utf8(bytes).unwrap(), from)
    }
}
