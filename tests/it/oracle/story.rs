//! What the log of an agent must tell of a walk.

use std::collections::{BTreeMap, HashMap};

use farsock::wire::pb;
use farsock::wire::pb::event::Body;

/// The events that operations must have caused, and the bytes that must have come in.
#[derive(Default)]
pub struct Story {
    caused: HashMap<String, Vec<&'static str>>,
    received: HashMap<String, Vec<Vec<u8>>>,
    urgent: HashMap<String, Vec<u8>>,
}

impl Story {
    /// An operation must have caused these.
    pub fn expect(&mut self, request: &str, kinds: &[&'static str]) {
        self.caused.entry(request.to_owned()).or_default().extend(kinds);
    }

    /// These payloads of a socket must stand in the log.
    pub fn receive(&mut self, id: &str, payload: Vec<u8>) {
        self.received.entry(id.to_owned()).or_default().push(payload);
    }

    /// This urgent byte of a socket must stand in the log.
    pub fn urgent(&mut self, id: &str, byte: u8) {
        self.urgent.entry(id.to_owned()).or_default().push(byte);
    }

    /// Compares it with the log.
    pub fn check(&self, events: &[pb::Event]) -> Result<(), String> {
        let mut caused: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut lives: BTreeMap<u64, Vec<&pb::Event>> = BTreeMap::new();
        for event in events {
            if event.kind == "session_reset" {
                continue;
            }
            caused.entry(&event.request_id).or_default().push(&event.kind);
            lives.entry(event.socket_uid).or_default().push(event);
        }
        for (request, kinds) in &self.caused {
            let told = caused.get(request.as_str()).cloned().unwrap_or_default();
            if told != *kinds {
                return Err(format!("{request} must have caused {kinds:?}, and has caused {told:?}"));
            }
        }
        let numbers =
            events.windows(2).all(|two| two[1].event_seq == two[0].event_seq + 1 && two[1].time() >= two[0].time());
        if !numbers {
            return Err("events are not in the order of their numbers and times".to_owned());
        }
        for life in lives.values() {
            let id = &life[0].socket_id;
            self.check_life(id, life).map_err(|what| {
                let kinds: Vec<_> = life.iter().map(|event| event.kind.as_str()).collect();
                format!("{id}: {what}: {kinds:?}")
            })?;
        }
        Ok(())
    }

    /// The events of one socket, from its first to its last.
    fn check_life(&self, id: &str, life: &[&pb::Event]) -> Result<(), String> {
        let kinds: Vec<&str> = life.iter().map(|event| event.kind.as_str()).collect();
        let count = |kind| kinds.iter().filter(|other| **other == kind).count();
        let place = |kind| kinds.iter().position(|other| *other == kind);
        if (place("created"), place("closed")) != (Some(0), Some(kinds.len() - 1)) || count("created") != 1 {
            return Err("it is not created first, closed last, and each once".to_owned());
        }
        let mut connecting = false;
        for kind in &kinds {
            match *kind {
                "connect_started" if connecting => return Err("two attempts at a time".to_owned()),
                "connect_started" => connecting = true,
                "connect_failed" if !connecting => return Err("no attempt has failed".to_owned()),
                "connected" | "connect_failed" => connecting = false,
                _ => {}
            }
        }
        if count("peer_closed") > 1 || count("peer_reset") > 1 {
            return Err("the peer has gone twice".to_owned());
        }
        self.check_bytes(id, life)
    }

    /// Offsets without gaps, and sums that are right.
    fn check_bytes(&self, id: &str, life: &[&pb::Event]) -> Result<(), String> {
        let (mut read, mut written, mut sent, mut payloads) = (0, 0, 0, Vec::new());
        let mut urgent = Vec::new();
        let mut over = false;
        for event in life {
            match event.body.as_ref().unwrap() {
                Body::Received(_) if over => return Err("bytes after the end".to_owned()),
                Body::Received(received) => {
                    if received.offset() != read {
                        return Err(format!("{read} bytes were received before {}", received.offset()));
                    }
                    read += u64::from(received.size);
                    payloads.push(data(received.payload.as_ref()));
                }
                Body::UrgentReceived(event) => {
                    let byte = event.byte.map(|byte| u8::try_from(byte).unwrap());
                    read += u64::from(byte.is_some());
                    urgent.extend(byte);
                }
                Body::UrgentLost(event) => read += u64::from(event.size),
                Body::DatagramReceived(datagram) => {
                    payloads.push(data(datagram.payload.as_ref()));
                    read += payloads.last().map_or(0, Vec::len) as u64;
                }
                Body::Written(event) => {
                    if event.offset() != written {
                        return Err(format!("{written} bytes were written before {}", event.offset()));
                    }
                    written += u64::from(event.size);
                }
                Body::Sent(event) => {
                    written += u64::from(event.size());
                    sent += 1;
                }
                Body::PeerClosed(_) | Body::PeerReset(_) => over = true,
                Body::Closed(closed) => {
                    let logged = self.received.contains_key(id) || !payloads.is_empty();
                    let sums = (closed.bytes_written(), closed.datagrams_sent);
                    if sums != (written, sent) || (logged && closed.bytes_read() != read) {
                        return Err(format!(
                            "{closed:?}, but {read} were read, {written} were written, {sent} were sent"
                        ));
                    }
                    let broken = [pb::CloseReason::PeerReset, pb::CloseReason::Failed].contains(&closed.reason());
                    let cause = life.get(life.len().wrapping_sub(2)).map_or("", |event| event.kind.as_str());
                    if broken && !["peer_reset", "failed"].contains(&cause) {
                        return Err("a failure stands right before its end".to_owned());
                    }
                }
                _ => {}
            }
        }
        let meant = self.received.get(id).cloned().unwrap_or_default();
        if meant != payloads {
            return Err(format!("{} payloads were meant, {} came", meant.len(), payloads.len()));
        }
        let meant = self.urgent.get(id).cloned().unwrap_or_default();
        if meant != urgent {
            return Err(format!("the urgent bytes {meant:?} were meant, {urgent:?} came"));
        }
        Ok(())
    }
}

/// The bytes of a payload that was asked for as data.
pub fn data(payload: Option<&pb::Payload>) -> Vec<u8> {
    match payload.and_then(|payload| payload.content.as_ref()) {
        Some(pb::payload::Content::Data(data)) => data.to_vec(),
        None => Vec::new(),
        other => panic!("no data: {other:?}"),
    }
}

trait Timed {
    fn time(&self) -> (i64, i32);
}

impl Timed for pb::Event {
    fn time(&self) -> (i64, i32) {
        self.time.as_ref().map_or((0, 0), |time| (time.seconds, time.nanos))
    }
}
