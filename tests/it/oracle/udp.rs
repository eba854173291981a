//! What UDP alone has.

use std::net::SocketAddr;

use farsock::wire::pb;
use socket2::SockAddr;

use super::Dice;
use super::exceptions::Exception;
use super::pair::{Came, brought, receive_datagram, word};
use super::worlds::{SLOTS, Step, Went, Worlds};
use crate::harness::tcp::{Reported, went};

impl Worlds<'_> {
    pub fn choose_udp(&self, dice: &mut Dice) -> Step {
        let (small, other) = (dice.below(300), dice.below(SLOTS));
        // UDP itself has room for 65,507 bytes over IPv4, and for 65,527 over IPv6.
        let longest = if self.ip.is_ipv4() { 65_507 } else { 65_527 };
        let size = dice.one(&[0, small, small, small, small, small, longest, longest + 1]);
        match dice.below(11) {
            0..=3 if self.is_reachable(other) => Step::SendTo(other, size),
            4..=7 => Step::Send(size),
            8 | 9 => Step::Disconnect,
            10 => Step::SendToPort0,
            _ => Step::SendToNobody,
        }
    }

    pub async fn take_udp(&mut self, slot: usize, step: Step) -> Went {
        let nobody = SocketAddr::new(self.ip, 1);
        match step {
            Step::ConnectTo(other) => {
                let (near, far) = self.addresses(other);
                self.connect_udp(slot, near, far).await
            }
            Step::ConnectToNobody => self.connect_udp(slot, nobody, nobody).await,
            Step::Disconnect => {
                let near = word(rustix::net::connect_unspec(self.plain(slot)).map_err(Into::into));
                let request =
                    pb::DisconnectSocketRequest { socket_id: self.id(slot), call: self.call(), ..Default::default() };
                let far = went(&self.agent.disconnect_socket(request).await);
                Went::told(near, far, "disconnected")
            }
            Step::Send(size) => self.send(slot, size, None).await,
            Step::SendTo(other, size) => self.send(slot, size, Some(self.addresses(other))).await,
            Step::SendToNobody => self.send(slot, 10, Some((nobody, nobody))).await,
            Step::SendToPort0 => {
                let nowhere = SocketAddr::new(self.ip, 0);
                self.send(slot, 10, Some((nowhere, nowhere))).await
            }
            other => panic!("{other:?} is not for UDP"),
        }
    }

    async fn connect_udp(&mut self, slot: usize, near: SocketAddr, far: SocketAddr) -> Went {
        let unbound = self.port(slot).is_none();
        let near = word(self.plain(slot).connect(&near.into()));
        let request = pb::ConnectSocketRequest {
            socket_id: self.id(slot),
            remote: far.to_string(),
            call: self.call(),
            ..Default::default()
        };
        let far = went(&self.agent.connect_socket(request).await);
        bound_first(unbound, Went::told(near, far, "connected"))
    }

    async fn send(&mut self, slot: usize, size: usize, to: Option<(SocketAddr, SocketAddr)>) -> Went {
        let unbound = self.port(slot).is_none();
        let bytes = self.bytes(size);
        let near = match to {
            Some((near, _)) => self.plain(slot).send_to_with_flags(&bytes, &SockAddr::from(near), libc::MSG_NOSIGNAL),
            None => self.plain(slot).send_with_flags(&bytes, libc::MSG_NOSIGNAL),
        };
        let near = near.map_or_else(|error| word::<()>(Err(error)), |size| format!("ok {size}"));
        let content = Some(pb::payload::Content::Data(bytes.into()));
        let datagram = pb::Datagram {
            destination: to.map_or_else(String::new, |(_, far)| far.to_string()),
            payload: Some(pb::Payload { content, ..Default::default() }),
            ..Default::default()
        };
        let request = pb::SendDatagramsRequest {
            socket_id: self.id(slot),
            datagrams: vec![datagram],
            call: self.call(),
            ..Default::default()
        };
        let far = match self.agent.send_datagrams(request).await {
            Ok(sent) if sent.went() == "ok" => format!("ok {}", sent.bytes_sent()),
            other => went(&other),
        };
        bound_first(unbound, Went::told(near, far, "sent"))
    }

    /// What a read of the test brings; the source and the rest are compared at once.
    pub fn receive_datagram_near(
        &mut self,
        slot: usize,
        max: usize,
        far: Option<&pb::ReceiveSocketResponse>,
    ) -> String {
        let pair = self.pairs[slot].as_mut().unwrap();
        let came = match pair.came.pop_front() {
            Some(Came::Datagram(bytes, source)) => {
                let size = bytes.len();
                Ok((bytes.into_iter().take(max).collect(), size, source))
            }
            Some(Came::Error(error)) => return error,
            Some(end) => {
                if rustix::io::ioctl_fionread(&pair.plain).unwrap() > 0 {
                    self.met.note(Exception::NothingAfterTheEnd);
                }
                pair.came.push_front(end);
                return "end".to_owned();
            }
            None => receive_datagram(&pair.plain, max),
        };
        let (bytes, size, source) = match came {
            Ok(came) => came,
            Err(error) => return word::<()>(Err(error)),
        };
        let told = far.and_then(|far| Some((far.truncated, far.source.as_ref()?.text.parse::<SocketAddr>().unwrap())));
        match told {
            Some((truncated, from)) if truncated != (bytes.len() < size) || !self.are_same(source, from) => {
                format!("{} bytes of {size} from {source}, and not from {from}", bytes.len())
            }
            _ => brought(&bytes, size),
        }
    }
}

/// What an unbound socket does is preceded by its being bound.
fn bound_first(unbound: bool, mut went: Went) -> Went {
    if unbound {
        went.caused.insert(0, "bound");
    }
    went
}
