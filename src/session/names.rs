//! The names of one session's sockets.
//!
//! Invariant: a name means at most one open socket; a number never means another socket.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::model::id::{SocketId, SocketUid};
use crate::model::refusal::{Quota, Refusal};

/// Names and what they stand for: open sockets, and the last closed ones.
#[derive(Debug)]
pub struct Names<H> {
    open_limit: u32,
    closed_limit: u32,
    by_name: HashMap<SocketId, SocketUid>,
    open: BTreeMap<SocketUid, (SocketId, H)>,
    closed: VecDeque<(SocketUid, SocketId, H)>,
    minted: u64,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<H> {
    /// An open socket.
    Open(H),
    /// The last socket that had the name; it is closed.
    Closed(H),
    /// Nothing that is remembered.
    Nothing,
}

impl<H: Clone> Names<H> {
    /// No names yet.
    pub fn new(open_limit: u32, closed_limit: u32) -> Self {
        Self {
            open_limit,
            closed_limit,
            by_name: HashMap::new(),
            open: BTreeMap::new(),
            closed: VecDeque::new(),
            minted: 0,
        }
    }

    /// Whether one more socket may be opened.
    pub fn has_room(&self) -> Result<(), Refusal> {
        self.has_room_for(1)
    }

    /// Whether so many more sockets may be opened.
    pub fn has_room_for(&self, count: usize) -> Result<(), Refusal> {
        if self.open.len().saturating_add(count) <= self.open_limit as usize {
            return Ok(());
        }
        Err(Refusal::QuotaExceeded(Quota { limit: "limits.sockets", value: self.open_limit.into() }))
    }

    /// Whether the name is free.
    pub fn is_free(&self, id: &SocketId) -> Result<(), Refusal> {
        if self.by_name.contains_key(id) { Err(Refusal::SocketExists(id.clone())) } else { Ok(()) }
    }

    /// A name that nobody has chosen.
    pub fn mint(&mut self) -> SocketId {
        loop {
            self.minted += 1;
            let id = SocketId::minted(self.minted);
            if !self.by_name.contains_key(&id) {
                return id;
            }
        }
    }

    /// The name of a listener's next connection, which is its `number`th or a later one: earlier ones of another listener of that name
    /// may still be open.
    pub fn child(&self, listener: &SocketId, number: &mut u64) -> SocketId {
        loop {
            *number += 1;
            let id = listener.child(*number);
            if !self.by_name.contains_key(&id) {
                return id;
            }
        }
    }

    /// Opens a socket. Numbers must grow.
    pub fn open(&mut self, id: SocketId, uid: SocketUid, handle: H) -> Result<(), Refusal> {
        self.has_room()?;
        self.is_free(&id)?;
        self.adopt(id, uid, handle);
        Ok(())
    }

    /// Opens a socket that is there already, under a name that [`child`](Self::child) has given: it cannot be turned away any more.
    pub fn adopt(&mut self, id: SocketId, uid: SocketUid, handle: H) {
        self.by_name.insert(id.clone(), uid);
        self.open.insert(uid, (id, handle));
    }

    /// Closes a socket: its name is free, and it is remembered for a while.
    pub fn close(&mut self, uid: SocketUid) {
        let Some((id, handle)) = self.open.remove(&uid) else { return };
        self.by_name.remove(&id);
        self.closed.push_back((uid, id, handle));
        if self.closed.len() > self.closed_limit as usize {
            self.closed.pop_front();
        }
    }

    /// Forgets the closed sockets.
    pub fn forget_closed(&mut self) {
        self.closed.clear();
    }

    /// What a name stands for.
    pub fn find(&self, id: &SocketId) -> Found<H> {
        if let Some((_, handle)) = self.by_name.get(id).and_then(|uid| self.open.get(uid)) {
            return Found::Open(handle.clone());
        }
        match self.closed.iter().rev().find(|(_, closed, _)| closed == id) {
            Some((_, _, handle)) => Found::Closed(handle.clone()),
            None => Found::Nothing,
        }
    }

    /// A closed socket that is remembered, by its number.
    pub fn closed(&self, uid: SocketUid) -> Option<H> {
        self.closed.iter().rev().find(|(closed, _, _)| *closed == uid).map(|(_, _, handle)| handle.clone())
    }

    /// How many sockets are open.
    pub fn open_count(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX)
    }

    /// The open sockets, in the order in which they were made.
    pub fn open_sockets(&self) -> Vec<H> {
        self.open.values().map(|(_, handle)| handle.clone()).collect()
    }

    /// Sockets after a number, in the order in which they were made, at most so many of those that are wanted; closed ones, too, if asked.
    pub fn page(
        &self,
        after: SocketUid,
        closed: bool,
        size: usize,
        wanted: impl Fn(&H) -> bool,
    ) -> Vec<(SocketUid, H)> {
        let mut all: Vec<(SocketUid, H)> = self
            .open
            .range(SocketUid(after.0.saturating_add(1))..)
            .filter(|(_, (_, handle))| wanted(handle))
            .take(size)
            .map(|(uid, (_, handle))| (*uid, handle.clone()))
            .collect();
        if closed {
            let closed = self.closed.iter().filter(|(uid, _, handle)| *uid > after && wanted(handle));
            all.extend(closed.map(|(uid, _, handle)| (*uid, handle.clone())));
            all.sort_by_key(|(uid, _)| *uid);
            all.truncate(size);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> SocketId {
        SocketId::parse(text).unwrap()
    }

    #[test]
    fn a_name_is_free_again_once_its_socket_is_closed() {
        let mut names = Names::new(10, 10);
        names.open(id("door"), SocketUid(1), "first").unwrap();
        assert_eq!(names.open(id("door"), SocketUid(2), "second"), Err(Refusal::SocketExists(id("door"))));
        names.close(SocketUid(1));
        assert_eq!(names.find(&id("door")), Found::Closed("first"));
        names.open(id("door"), SocketUid(2), "second").unwrap();
        assert_eq!(names.find(&id("door")), Found::Open("second"));
        assert_eq!((names.closed(SocketUid(1)), names.closed(SocketUid(2))), (Some("first"), None));
        names.close(SocketUid(2));
        assert_eq!(names.find(&id("door")), Found::Closed("second"));
        names.forget_closed();
        assert_eq!(names.find(&id("door")), Found::Nothing);
    }

    #[test]
    fn a_new_listener_does_not_take_names_of_open_connections() {
        let mut names = Names::new(10, 10);
        names.open(id("door.1"), SocketUid(1), ()).unwrap();
        let mut number = 0;
        assert_eq!((names.child(&id("door"), &mut number), number), (id("door.2"), 2));
    }

    #[test]
    fn minted_names_go_round_chosen_ones() {
        let mut names = Names::new(10, 10);
        names.open(id("s1"), SocketUid(1), ()).unwrap();
        assert_eq!(names.mint(), id("s2"));
    }

    #[test]
    fn the_limit_counts_open_sockets_only() {
        let mut names = Names::new(1, 1);
        names.open(id("a"), SocketUid(1), ()).unwrap();
        assert!(matches!(names.open(id("b"), SocketUid(2), ()), Err(Refusal::QuotaExceeded(q)) if q.value == 1));
        names.close(SocketUid(1));
        names.open(id("b"), SocketUid(2), ()).unwrap();
        names.close(SocketUid(2));
        assert_eq!(names.find(&id("a")), Found::Nothing, "only the last closed socket is remembered");
    }

    proptest! {
        #[test]
        fn pages_show_each_socket_once_in_order(
            closing in prop::collection::vec(any::<bool>(), 0..40), size in 1usize..7, closed: bool,
        ) {
            let mut names = Names::new(100, 100);
            for (n, close) in (1..).zip(&closing) {
                names.open(SocketId::minted(n), SocketUid(n), ()).unwrap();
                if *close {
                    names.close(SocketUid(n));
                }
            }
            let (mut after, mut seen) = (SocketUid(0), Vec::new());
            loop {
                let page = names.page(after, closed, size, |_| true);
                prop_assert!(page.len() <= size);
                let Some((last, ())) = page.last() else { break };
                after = *last;
                seen.extend(page.iter().map(|(uid, ())| uid.0));
            }
            let wanted: Vec<u64> = (1..).zip(&closing).filter(|(_, c)| closed || !**c).map(|(n, _)| n).collect();
            prop_assert_eq!(seen, wanted);
        }
    }
}
