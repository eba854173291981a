//! What happened on all hosts, in one order.
//!
//! Invariants: events of one host keep their order. What was caused comes after its cause, whatever the clocks say: a byte is not received
//! before it is sent. Everything else follows the clocks, corrected by their offsets; what is nearer than those are known is marked, and so
//! is what contradicts its cause. What has a place keeps it: a cause that is told after what it led to stands below that, and says so.

pub mod precedence;
#[cfg(test)]
mod random;
#[cfg(test)]
mod samples;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::exercise::causes::{Causes, Place, is_part};
use crate::exercise::heads::Heads;
use crate::model::event::EventRecord;

/// An event as a host told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The event.
    pub record: Arc<EventRecord>,
    /// When it happened, in nanoseconds of the controller's clock.
    pub at: i64,
    /// By how much that may be wrong, beside events of other hosts.
    pub bound: i64,
}

/// An event in its place on the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Which host.
    pub host: usize,
    /// The event.
    pub record: Arc<EventRecord>,
    /// When it happened, in nanoseconds of the controller's clock.
    pub at: i64,
    /// By how much that may be wrong, beside events of other hosts.
    pub bound: i64,
    /// What caused it on the other side: a host, and an event there.
    pub cause: Option<(usize, Arc<EventRecord>)>,
    /// It may have come before the moment that stands before it.
    pub unordered: bool,
    /// By the clocks, it came so many nanoseconds before its cause, which is more than the clocks may be wrong by.
    pub before_cause: Option<i64>,
    /// What it has led to on the other side, and stands before it, because it was told before: a host, and the first such event there.
    pub effect_before: Option<(usize, Arc<EventRecord>)>,
}

/// What all hosts have told so far. It grows at its end: what has a place keeps it, and only what is new is looked at.
pub struct Timeline {
    /// What each host has told, in its own order.
    hosts: Vec<Vec<Told>>,
    /// How many of these have a place.
    placed: Vec<usize>,
    causes: Causes,
    /// The one that stands last.
    last: Option<Moment>,
}

impl Timeline {
    /// One of so many hosts, which have told nothing yet.
    pub fn new(hosts: usize) -> Self {
        Self { hosts: vec![Vec::new(); hosts], placed: vec![0; hosts], causes: Causes::default(), last: None }
    }

    /// Puts what hosts have told since into its place, behind everything that has one.
    pub fn extend(&mut self, news: impl IntoIterator<Item = (usize, Vec<Told>)>) -> Vec<Moment> {
        let mut fresh = BTreeSet::new();
        for (host, told) in news {
            fresh.insert(host);
            self.hosts[host].extend(told);
        }
        self.causes.extend(&self.hosts, &fresh);
        let mut moments = self.in_order(&fresh);
        mark(&mut moments, self.last.as_ref());
        if let Some(last) = moments.last() {
            self.last = Some(last.clone());
        }
        moments
    }

    /// Places everything that has no place yet; all of it is of these hosts.
    fn in_order(&mut self, fresh: &BTreeSet<usize>) -> Vec<Moment> {
        let mut moments = Vec::new();
        let mut heads = Heads::default();
        for host in fresh {
            self.head(*host, &mut heads);
        }
        while let Some(host) = heads.take() {
            let place = (host, self.placed[host]);
            moments.push(self.moment(place));
            self.placed[host] += 1;
            heads.free(place);
            self.head(host, &mut heads);
        }
        moments
    }

    /// Enters what a host has told next, if anything.
    fn head(&self, host: usize, heads: &mut Heads) {
        let place = (host, self.placed[host]);
        let Some(told) = self.hosts[host].get(place.1) else { return };
        let cause = self.causes.of(place).filter(|(other, at)| *at >= self.placed[*other]);
        heads.enter((told.at, host), cause);
    }

    fn moment(&self, (host, at): Place) -> Moment {
        let told = &self.hosts[host][at];
        let cause = self.causes.of((host, at)).map(|(other, at)| (other, &self.hosts[other][at]));
        let before_cause = cause.and_then(|(other, cause)| {
            let before = cause.at.saturating_sub(told.at);
            let contradicts = before > together((other, cause.bound), (host, told.bound));
            (contradicts && !is_part(&told.record.event, &cause.record.event)).then_some(before)
        });
        let cause = cause.map(|(other, cause)| (other, Arc::clone(&cause.record)));
        let effect_before = self.causes.late((host, at)).map(|(other, at)| (other, &self.hosts[other][at].record));
        let effect_before = effect_before.map(|(other, effect)| (other, Arc::clone(effect)));
        let Told { record, at, bound } = told.clone();
        Moment { host, record, at, bound, cause, unordered: false, before_cause, effect_before }
    }
}

/// Marks moments that may have come before the one that stands before them: those that are nearer to it than the clocks are known, where
/// nothing else says which came first. `before` stands before them all.
fn mark(moments: &mut [Moment], before: Option<&Moment>) {
    let mut before = before.map(|moment| (moment.host, moment.record.seq, moment.at, moment.bound));
    for moment in moments {
        // What had come between a cause and its effect would stand between them; so only the cause itself orders neighbours.
        moment.unordered = before.is_some_and(|(host, seq, at, bound)| {
            let caused = moment.cause.as_ref().is_some_and(|(other, cause)| (*other, cause.seq) == (host, seq));
            let apart = moment.at.saturating_sub(at).saturating_abs();
            host != moment.host && !caused && apart <= together((host, bound), (moment.host, moment.bound))
        });
        before = Some((moment.host, moment.record.seq, moment.at, moment.bound));
    }
}

/// By how much the distance of moments of two hosts may be wrong.
const fn together((one, bound): (usize, i64), (other, other_bound): (usize, i64)) -> i64 {
    if one == other { 0 } else { bound.saturating_add(other_bound) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::timeline::samples::{
        CLIENT, SERVER, accepted, bounded, causes, client, connected, datagram, endpoint, host, log, merge, received,
        sent, server, shown, written,
    };
    use crate::model::event::Event;

    #[test]
    fn cause_comes_before_effect_whatever_the_clocks_say() {
        let right = ["0:connected", "1:created", "0:written", "1:received", "0:shut_down", "1:peer_closed"];
        assert_eq!(shown(&merge(&[client([1, 3, 5]), server([2, 4, 6])], &[0, 0])), right);
        // The server's clock is far behind: its events stay after what caused them.
        assert_eq!(shown(&merge(&[client([1, 3, 5]), server([-900, -800, -700])], &[0, 0])), right);
        let moments = merge(&[client([1, 3, 5]), server([2, 4, 6])], &[0, 0]);
        let (host, cause) = moments[3].cause.clone().unwrap();
        assert_eq!((host, cause.event.kind()), (0, "written"));
    }

    #[test]
    fn what_contradicts_its_cause_is_told_unless_the_bounds_allow_it() {
        let told = |bounds: &[i64]| -> Vec<Option<i64>> {
            let moments = merge(&[client([10, 30, 50]), server([2, 34, 41])], bounds);
            moments.iter().filter(|moment| moment.host == 1).map(|moment| moment.before_cause).collect()
        };
        assert_eq!(told(&[0, 0]), [Some(8), None, Some(9)]);
        assert_eq!(told(&[4, 4]), [None, None, Some(9)]);
        assert_eq!(told(&[5, 5]), [None, None, None]);
    }

    /// A SYN leads to what the other side accepts, not that this side notices what has become of it; and a large write is told when the kernel has
    /// all of it: much of it may have come by then, but not its end.
    #[test]
    fn what_is_told_after_what_it_has_led_to_contradicts_nothing() {
        let begun = |remote| Event::ConnectStarted { remote: endpoint(remote) };
        // Another attempt began before this one was noticed to have won.
        let attempts = [(10, begun(SERVER)), (13, begun("10.0.0.9:80")), (14, connected(CLIENT, SERVER))];
        let writer = host(attempts.into_iter().chain([(50, written(0, 6))]).collect());
        let reader = host(vec![(12, accepted(SERVER, CLIENT)), (20, received(0, b"abc")), (30, received(3, b"def"))]);
        let moments = merge(&[writer, reader], &[0, 0]);
        let told: Vec<_> = moments.iter().map(|moment| (moment.host, moment.at, moment.before_cause)).collect();
        let after = [(0, 50, None), (1, 20, None), (1, 30, Some(20))];
        assert_eq!(told, [&[(0, 10, None), (1, 12, None), (0, 13, None), (0, 14, None)][..], &after].concat());
    }

    #[test]
    fn neighbours_nearer_than_the_clocks_are_known_are_unordered_unless_one_led_to_the_other() {
        let marked = |moments: &[Moment]| -> Vec<bool> { moments.iter().map(|moment| moment.unordered).collect() };
        // Each effect follows its cause at once; only what follows an effect is of another host and was not led to.
        let moments = merge(&[client([10, 20, 30]), server([11, 21, 31])], &[5, 5]);
        assert_eq!(marked(&moments), [false, false, true, false, true, false], "{:?}", shown(&moments));
        let moments = merge(&[client([10, 20, 30]), server([11, 21, 31])], &[2, 2]);
        assert_eq!(marked(&moments), [false; 6]);
        // What is told later goes on from what was told before.
        let mut timeline = Timeline::new(2);
        let [client, server] = [client([10, 20, 30]), server([11, 21, 31])];
        let mut hosts = bounded(&[client, server], &[5, 5]);
        let later: Vec<Vec<Told>> = hosts.iter_mut().map(|host| host.split_off(1)).collect();
        assert_eq!(marked(&timeline.extend(hosts.into_iter().enumerate())), [false, false]);
        assert_eq!(marked(&timeline.extend(later.into_iter().enumerate())), [true, false, true, false]);
    }

    /// The other side is slower to tell: what it has caused is told without its cause, and nothing after it gets a wrong one.
    #[test]
    fn a_cause_that_is_told_too_late_is_nobody_elses() {
        let bound = (0, Event::Bound { local: endpoint("10.0.0.2:4000") });
        let mut sender = host(vec![bound, (10, sent(1)), (20, sent(1))]);
        let one = || datagram("10.0.0.2:4000", "10.0.0.1:53", 1);
        let mut receiver = host(vec![(15, one()), (25, one())]);
        let (sends, received) = (sender.split_off(1), receiver.split_off(1));
        let mut timeline = Timeline::new(2);
        assert_eq!(causes(&timeline.extend([(0, sender), (1, receiver)])), []);
        let moments = timeline.extend([(0, sends), (1, received)]);
        assert_eq!(causes(&moments), [("datagram_received:2".to_owned(), 3)]);
    }

    /// The other side is far behind: what it has caused has its place already, and the cause says what that was.
    #[test]
    fn a_cause_that_is_told_too_late_says_what_it_has_led_to() {
        let (mut client, server) = (client([10, 30, 50]), server([11, 31, 51]));
        let later = client.split_off(1);
        let mut timeline = Timeline::new(3);
        assert_eq!(causes(&timeline.extend([(1, server)])), []);
        assert_eq!(timeline.extend([(2, host(vec![(12, sent(1))]))]).len(), 1, "others tell meanwhile");
        let mut moments = timeline.extend([(0, client)]);
        moments.extend(timeline.extend([(0, later)]));
        let effects = moments.iter().map(|moment| moment.effect_before.as_ref());
        let led_to: Vec<_> = effects.map(|effect| effect.map(|(host, effect)| (*host, effect.event.kind()))).collect();
        assert_eq!(led_to, [Some((1, "created")), Some((1, "received")), Some((1, "peer_closed"))]);
        // In time, there is nothing to say.
        let moments = merge(&[self::client([10, 30, 50]), self::server([11, 31, 51])], &[0, 0]);
        assert!(moments.iter().all(|moment| moment.effect_before.is_none()));
    }

    /// A port is used again: each connection has its own causes.
    #[test]
    fn connections_between_the_same_addresses_are_told_apart() {
        let closed = || Event::Aborted;
        let client = log(vec![
            (1, 1, connected(CLIENT, SERVER)),
            (2, 1, written(0, 3)),
            (3, 1, closed()),
            (10, 2, connected(CLIENT, SERVER)),
            (11, 2, written(0, 3)),
            (12, 2, closed()),
        ]);
        let reset = || Event::PeerClosed { bytes_read: 3 };
        let server = log(vec![
            (1, 5, accepted(SERVER, CLIENT)),
            (2, 5, received(0, b"abc")),
            (3, 5, reset()),
            (10, 6, accepted(SERVER, CLIENT)),
            (11, 6, received(0, b"def")),
            (12, 6, reset()),
        ]);
        let moments = merge(&[client, server], &[0, 0]);
        let kinds = ["created:1", "received:2", "peer_closed:3", "created:4", "received:5", "peer_closed:6"];
        let expected: Vec<(String, u64)> = kinds.iter().map(|kind| (*kind).to_owned()).zip(1..).collect();
        assert_eq!(causes(&moments), expected);
    }

    #[test]
    fn datagrams_are_matched_one_by_one() {
        let bound = (0, Event::Bound { local: endpoint("0.0.0.0:4000") });
        let sender = host(vec![bound, (10, sent(1)), (20, sent(1))]);
        let one = || datagram("10.0.0.2:4000", "10.0.0.1:53", 1);
        let receiver = host(vec![(5, one()), (15, one())]);
        assert_eq!(
            shown(&merge(&[sender, receiver], &[0, 0])),
            ["0:bound", "0:sent", "1:datagram_received", "0:sent", "1:datagram_received"]
        );
    }

    #[test]
    fn a_datagram_that_was_lost_is_passed_over_where_sizes_tell() {
        let bound = (0, Event::Bound { local: endpoint("10.0.0.2:4000") });
        let sender = host(vec![bound, (10, sent(1)), (20, sent(2)), (30, sent(3))]);
        let receiver = host(vec![(31, datagram("10.0.0.2:4000", "10.0.0.1:53", 3))]);
        let moments = merge(&[sender, receiver], &[0, 0]);
        assert_eq!(causes(&moments), [("datagram_received:1".to_owned(), 4)]);
    }

    /// Several hosts are bound to all addresses and the same port: who sent first is taken first, in every run.
    #[test]
    fn senders_that_look_alike_are_taken_in_the_order_of_their_sends() {
        let sender = |at| host(vec![(0, Event::Bound { local: endpoint("0.0.0.0:4000") }), (at, sent(1))]);
        let one = || datagram("10.0.0.2:4000", "10.0.0.1:53", 1);
        let receiver = host(vec![(100, one()), (101, one())]);
        let hosts = [sender(20), sender(10), receiver];
        let moments = merge(&hosts, &[0, 0, 0]);
        let from: Vec<usize> = moments.iter().filter_map(|moment| Some(moment.cause.as_ref()?.0)).collect();
        assert_eq!(from, [1, 0]);
    }

    /// What is sent to a group is received by many, and each copy has the same cause.
    #[test]
    fn each_member_of_a_group_receives_its_own_copy() {
        let to_group = Event::Sent { destination: Some(endpoint("239.1.1.1:53")), size: 1, reply_to_event: 0 };
        let bound = (0, Event::Bound { local: endpoint("10.0.0.2:4000") });
        let sender = host(vec![bound, (10, to_group.clone()), (20, to_group)]);
        let copy = || datagram("10.0.0.2:4000", "239.1.1.1:53", 1);
        let member = || host(vec![(30, copy()), (31, copy())]);
        let moments = merge(&[sender, member(), member()], &[0, 0, 0]);
        let numbers: Vec<u64> = moments.iter().filter_map(|moment| Some(moment.cause.as_ref()?.1.seq)).collect();
        assert_eq!(numbers, [2, 2, 3, 3]);
    }
}
