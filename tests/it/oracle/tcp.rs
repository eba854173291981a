//! What TCP alone has.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use farsock::wire::pb;
use pb::SocketState;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::Socket;

use super::Dice;
use super::exceptions::Exception;
use super::pair::{Came, Pair, brought, is_over, receive_bytes, word};
use super::worlds::{SLOTS, Step, Went, Worlds};
use crate::harness::tcp::{Reported, went};

impl Worlds<'_> {
    pub fn choose_tcp(&self, slot: usize, dice: &mut Dice) -> Step {
        let pair = self.pairs[slot].as_ref().unwrap();
        let idle = [SocketState::Unbound, SocketState::Bound].contains(&pair.far.state());
        let free = (0..SLOTS).find(|slot| self.pairs[*slot].is_none());
        match (dice.below(8), free) {
            (0 | 1, _) => Step::Listen,
            (2 | 3, Some(free)) => Step::Accept(free),
            (4, _) if idle => Step::ConnectInVain,
            (4, _) if pair.attempt.is_some() => Step::GiveUp,
            (5, _) => Step::WriteUrgent(1 + dice.below(3)),
            _ => Step::Write(1 + dice.below(300)),
        }
    }

    pub async fn take_tcp(&mut self, slot: usize, step: Step) -> Went {
        match step {
            Step::Listen => {
                let near = word(self.plain(slot).listen(16));
                let request = pb::ListenSocketRequest {
                    socket_id: self.id(slot),
                    backlog: Some(16),
                    call: self.call(),
                    ..Default::default()
                };
                Went::told(near, went(&self.agent.listen_socket(request).await), "listening")
            }
            Step::ConnectTo(other) => {
                let (near, far) = self.addresses(other);
                self.connect_tcp(slot, near, far).await
            }
            Step::ConnectToNobody => {
                let nobody = SocketAddr::new(self.ip, 1);
                self.connect_tcp(slot, nobody, nobody).await
            }
            Step::ConnectInVain => self.connect_in_vain(slot).await,
            Step::GiveUp => self.give_up(slot).await,
            Step::Accept(into) => self.accept(slot, into).await,
            Step::Write(size) => self.write(slot, size, false).await,
            Step::WriteUrgent(size) => self.write(slot, size, true).await,
            other => panic!("{other:?} is not for TCP"),
        }
    }

    pub async fn abort(&mut self, slot: usize) -> Went {
        let pair = self.pairs[slot].take().unwrap();
        pair.plain.set_linger(Some(Duration::ZERO)).unwrap();
        let connected = pair.far.state() == SocketState::Connected;
        let request = pb::AbortSocketRequest { socket_id: pair.id, call: self.call(), ..Default::default() };
        let far = went(&self.agent.abort_socket(request).await);
        let resets = connected && self.transport == pb::Transport::Tcp;
        let caused = if resets { vec!["aborted", "closed"] } else { vec!["closed"] };
        Went { near: "ok".to_owned(), far, caused }
    }

    async fn connect_tcp(&mut self, slot: usize, near: SocketAddr, far: SocketAddr) -> Went {
        let attempt = [SocketState::Unbound, SocketState::Bound].contains(&self.pair(slot).far.state());
        let near = connect(self.plain(slot), near);
        let request = pb::ConnectSocketRequest {
            socket_id: self.id(slot),
            remote: far.to_string(),
            call: self.patient_call(20_000),
            ..Default::default()
        };
        let far = went(&self.agent.connect_socket(request).await);
        self.pair(slot).bound &= near == "ok" || !attempt;
        let caused = match (attempt, near.as_str()) {
            (true, "ok") => vec!["connect_started", "connected"],
            (true, _) => vec!["connect_started", "connect_failed"],
            (false, _) => vec!["failed"],
        };
        Went { near, far, caused }
    }

    async fn connect_in_vain(&mut self, slot: usize) -> Went {
        let remote = self.full.address;
        let near = word(self.plain(slot).connect(&remote.into()));
        let call = self.patient_call(60_000).map(|call| pb::Call { detach: true, ..call });
        let request = pb::ConnectSocketRequest {
            socket_id: self.id(slot),
            remote: remote.to_string(),
            call,
            ..Default::default()
        };
        let far = went(&self.agent.connect_socket(request).await).replace("ok", "EINPROGRESS");
        self.pair(slot).attempt = Some(self.request());
        Went { near, far, caused: vec!["connect_started"] }
    }

    async fn give_up(&mut self, slot: usize) -> Went {
        rustix::net::connect_unspec(self.plain(slot)).unwrap();
        self.plain(slot).take_error().unwrap().unwrap();
        let request_id = self.pair(slot).attempt.clone().unwrap();
        let far = match self.agent.cancel_call(&request_id).await {
            Ok(_) => "ok".to_owned(),
            Err(refused) => refused.reason,
        };
        self.attempt_is_over(slot);
        Went { near: "ok".to_owned(), far, caused: vec![] }
    }

    /// The attempt to connect that went on is over, and must be told of as such.
    pub fn attempt_is_over(&mut self, slot: usize) {
        let pair = self.pair(slot);
        pair.bound = false;
        let request = pair.attempt.take().unwrap();
        self.story.expect(&request, &["connect_failed"]);
    }

    async fn accept(&mut self, slot: usize, into: usize) -> Went {
        let near = self.plain(slot).accept();
        let request = pb::AcceptSocketRequest { socket_id: self.id(slot), call: self.call(), ..Default::default() };
        let far = self.agent.accept_socket(request).await;
        let words = (word(near.as_ref().map_err(raw)), went(&far));
        if let (Ok((plain, _)), Ok(pb::AcceptSocketResponse { socket: Some(far), .. })) = (near, far) {
            plain.set_nonblocking(true).unwrap();
            self.pairs[into] = Some(Pair::new(plain, far));
            return Went { near: words.0, far: words.1, caused: vec!["created", "accepted"] };
        }
        Went::told(words.0, words.1, "")
    }

    async fn write(&mut self, slot: usize, size: usize, urgent: bool) -> Went {
        let pair = self.pair(slot);
        // The end of a connection is no failure of the operation that finds it.
        let broken = is_over(pair) && !pair.far.shut_down;
        let bytes = self.bytes(size);
        let flags = if urgent { libc::MSG_OOB } else { 0 };
        let near = self.plain(slot).send_with_flags(&bytes, libc::MSG_NOSIGNAL | flags);
        let near = near.map_or_else(|error| word::<()>(Err(error)), |size| format!("ok {size}"));
        let content = Some(pb::payload::Content::Data(bytes.into()));
        let payload = Some(pb::Payload { content, ..Default::default() });
        let request = pb::WriteSocketRequest {
            socket_id: self.id(slot),
            payload,
            urgent,
            call: self.call(),
            ..Default::default()
        };
        let far = match self.agent.write_socket(request).await {
            Ok(written) if written.went() == "ok" => format!("ok {}", written.bytes_written()),
            other => went(&other),
        };
        self.pair(slot).writer_told |= near == "ECONNRESET";
        let mut told = Went::told(near, far, "written");
        if broken {
            told.caused.clear();
        }
        told
    }

    /// What a read of the test brings.
    pub fn receive_near(&mut self, slot: usize, max: usize) -> String {
        let pair = self.pairs[slot].as_mut().unwrap();
        match pair.came.front_mut() {
            Some(Came::Bytes(bytes)) => {
                let rest = bytes.split_off(bytes.len().min(max));
                let taken = std::mem::replace(bytes, rest);
                if bytes.is_empty() {
                    pair.came.pop_front();
                }
                brought(&taken, taken.len())
            }
            Some(Came::End) => {
                if pair.deaf && rustix::io::ioctl_fionread(&pair.plain).unwrap() > 0 {
                    self.met.note(Exception::NothingAfterTheEnd);
                }
                "end".to_owned()
            }
            _ => {
                pair.take_urgent(&mut self.story);
                match receive_bytes(&pair.plain, max) {
                    Ok(bytes) if bytes.is_empty() => "end".to_owned(),
                    Ok(bytes) => brought(&bytes, bytes.len()),
                    Err(error) => word::<()>(Err(error)),
                }
            }
        }
    }
}

/// Connects as a program does that waits for the answer.
fn connect(socket: &Socket, remote: SocketAddr) -> String {
    let begun = socket.connect(&remote.into());
    if !matches!(&begun, Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS)) {
        return word(begun);
    }
    let mut waiting = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)];
    poll(&mut waiting, None).unwrap();
    word(socket.connect(&remote.into()))
}

/// The same error once more.
fn raw(error: &std::io::Error) -> std::io::Error {
    std::io::Error::from_raw_os_error(error.raw_os_error().unwrap())
}
