//! The streams of a simulated agent: real cursors, each behind a window that its watcher opens.

use std::sync::Arc;

use farsock::eventlog::cursor::{Cursor, Next};
use farsock::eventlog::hub::{From, WatchPermit};
use farsock::model::refusal::Refusal;

use super::agent::{Agent, WATCHERS};
use super::messages::{Frame, Subscription};
use super::world::{Happening, Net};

/// How many frames a watcher's window takes.
const WINDOW: usize = 3;
const HEARTBEAT: u64 = 2_000;

pub struct Stream {
    cursor: Cursor,
    _permit: WatchPermit,
    in_flight: usize,
    /// When its last frame arrives: they do not overtake each other.
    last: u64,
}

impl Agent {
    pub fn watch(&mut self, net: &mut Net, asked: Subscription) -> Result<(), &'static str> {
        if asked.instance.is_some_and(|meant| meant != self.instance) {
            return Err("INSTANCE_CHANGED");
        }
        let key = self.find(&asked.session)?;
        let active = self.is_active(key, net.now);
        let hub = Arc::clone(&self.sessions[&key].hub);
        let reason = |refusal: Refusal| refusal.reason();
        let permit = hub.watch(WATCHERS).map_err(reason)?;
        let mut begin = asked.after.map_or(From::Oldest, From::After);
        let mut cursor = hub.cursor(begin, asked.filter.clone()).map_err(reason)?;
        if let Some(name) = &asked.name {
            let known = hub.named_watchers().iter().any(|(known, _)| known == name);
            if !active && !known {
                return Err("LEASE_EXPIRED");
            }
            let floor = hub.bounds().1 + 1 - hub.held().events;
            let acknowledged = hub.hold_for(name, WATCHERS).ok_or("NOT_LOSSLESS")?.map_err(reason)?;
            net.ledgers[key].held_from.entry(name.clone()).or_insert(floor);
            if let (From::Oldest, Some(through)) = (begin, acknowledged) {
                begin = From::After(through);
                cursor = hub.cursor(begin, asked.filter).map_err(reason)?;
            }
        }
        let (oldest, head) = hub.bounds();
        let after = if let From::After(after) = begin { Some(after) } else { None };
        let kept = cursor.through() + 1;
        let mut stream = Stream { cursor: cursor.at_most(3), _permit: permit, in_flight: 0, last: net.now };
        let opened = Frame::Opened { key, instance: self.instance.clone(), oldest, head, after, kept };
        stream.send(net, asked.stream, opened);
        self.streams.insert(asked.stream, stream);
        net.tally.streams += 1;
        net.at(HEARTBEAT, Happening::Heartbeat(self.life, asked.stream));
        Ok(())
    }

    /// A sign of life where nothing has happened.
    pub fn heartbeat(&mut self, net: &mut Net, id: u64) {
        self.settle(net);
        if let Some(stream) = self.streams.get_mut(&id) {
            if stream.in_flight < WINDOW {
                stream.send(net, id, Frame::Heartbeat { through: stream.cursor.through() });
            }
            net.at(HEARTBEAT, Happening::Heartbeat(self.life, id));
        }
    }

    /// The connection of a stream has broken.
    pub fn broken(&mut self, stream: u64) {
        self.streams.remove(&stream);
    }

    pub fn streams(&self) -> Vec<u64> {
        self.streams.keys().copied().collect()
    }

    /// The watcher has taken a frame of this stream.
    pub fn credit(&mut self, stream: u64) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.in_flight -= 1;
        }
    }

    /// Lets all streams tell what they can.
    pub fn stream_on(&mut self, net: &mut Net) {
        self.streams.retain(|id, stream| {
            while stream.in_flight < WINDOW {
                let frame = match stream.cursor.try_next() {
                    None => return true,
                    Some(Next::Batch { from, through, records }) => Frame::Batch { from, through, records },
                    Some(Next::Gap(gap)) => Frame::Gap { first: gap.first, last: gap.last },
                    Some(Next::Ended) => {
                        stream.send(net, *id, Frame::Ended);
                        return false;
                    }
                };
                if let Frame::Gap { .. } = frame {
                    net.tally.gaps += 1;
                }
                stream.send(net, *id, frame);
            }
            true
        });
    }
}

impl Stream {
    fn send(&mut self, net: &mut Net, id: u64, frame: Frame) {
        self.in_flight += 1;
        let delay = net.delay();
        self.last = self.last.max(net.now + delay);
        net.at(self.last - net.now, Happening::Frame(id, frame));
    }
}
