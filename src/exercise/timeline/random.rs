//! Properties of a timeline, tried with random events.

use proptest::prelude::*;

use crate::exercise::timeline::precedence::{Precedence, Relations};
use crate::exercise::timeline::samples::{
    SERVER, accepted, bounded, client, connected, datagram, endpoint, log, merge, received, sent, server, written,
};
use crate::exercise::timeline::{Moment, Timeline, Told};
use crate::model::event::Event;

proptest! {
    /// No host's own order is changed, nothing is lost, and effects follow causes, with clocks off by anything.
    #[test]
    fn merging_keeps_every_order(
        steps in prop::collection::vec(0i64..1000, 3), others in prop::collection::vec(0i64..1000, 3), skew in -5_000_000_000i64..5_000_000_000,
    ) {
        let rising = |gaps: &[i64], from: i64| {
            let mut at = from;
            [0, 1, 2].map(|n: usize| { at += gaps[n]; at })
        };
        let moments = merge(&[client(rising(&steps, 0)), server(rising(&others, skew))], &[0, 0]);
        prop_assert_eq!(moments.len(), 6);
        keeps_orders(&moments, 2)?;
    }

    /// The same with many connections, of which ports are used again, and with datagrams, between many hosts; and each effect has the cause that
    /// it truly had.
    #[test]
    fn true_causes_are_found_whatever_the_clocks_say(
        talks in prop::collection::vec((0usize..3, 0usize..4, 0u16..2, 1u32..5), 1..20),
        skews in prop::collection::vec(-3_000_000_000i64..3_000_000_000, 4),
    ) {
        // Host 3 serves; the others connect, write, send some datagrams, and end, one after the other.
        let bound = |client: usize| (skews[client], 99, Event::Bound { local: endpoint(&format!("10.0.0.{client}:6000")) });
        let mut logs: Vec<Vec<(i64, u64, Event)>> = (0..4).map(|host| vec![bound(host)]).collect();
        let mut truth = Vec::new();
        for (number, (client, datagrams, port, size)) in talks.iter().enumerate() {
            let (now, uid) = (1 + number as i64 * 1_000, number as u64 + 1);
            for at in 0..*datagrams {
                let now = now + 100 + at as i64 * 10;
                truth.push(((*client, logs[*client].len()), logs[3].len()));
                logs[*client].push((now + skews[*client], 99, sent(*size)));
                logs[3].push((now + 5 + skews[3], 98, datagram(&format!("10.0.0.{client}:6000"), "10.0.0.1:53", *size)));
            }
            let (local, remote) = (format!("10.0.0.{client}:{}", 5_000 + port), SERVER.to_owned());
            let payload = &b"abcde"[..*size as usize];
            let ours = [connected(&local, &remote), written(0, *size), Event::Aborted];
            let theirs = [accepted(&remote, &local), received(0, payload), Event::PeerClosed { bytes_read: 0 }];
            for (at, (cause, effect)) in ours.into_iter().zip(theirs).enumerate() {
                let now = now + at as i64 * 10;
                truth.push(((*client, logs[*client].len()), logs[3].len()));
                logs[*client].push((now + skews[*client], uid, cause));
                logs[3].push((now + 5 + skews[3], uid, effect));
            }
        }
        let hosts: Vec<Vec<Told>> = logs.into_iter().map(log).collect();
        let moments = merge(&hosts, &[0; 4]);
        keeps_orders(&moments, 4)?;
        for ((host, at), effect) in truth {
            let moment = moments.iter().find(|moment| moment.host == 3 && moment.record.seq == effect as u64 + 1).unwrap();
            let found = moment.cause.as_ref().map(|(host, cause)| (*host, cause.seq));
            prop_assert_eq!(found, Some((host, at as u64 + 1)));
        }
    }

    /// Told in pieces, whatever these are: no host's own order is changed, and effects follow their causes and know them, as far as those are
    /// told no later.
    #[test]
    fn what_is_told_in_pieces_keeps_every_order(
        talks in prop::collection::vec((0usize..3, 1u32..5, 0usize..4), 1..20),
        skews in prop::collection::vec(-3_000_000_000i64..3_000_000_000, 4),
    ) {
        let mut timeline = Timeline::new(4);
        let mut logs: Vec<Vec<(i64, u64, Event)>> = vec![Vec::new(); 4];
        let (mut told, mut moments) = (vec![0; 4], Vec::new());
        let mut piece = |logs: &[Vec<(i64, u64, Event)>], moments: &mut Vec<Moment>| {
            let all: Vec<Vec<Told>> = logs.iter().cloned().map(log).collect();
            let news: Vec<_> = all.into_iter().enumerate().map(|(host, log)| (host, log[told[host]..].to_vec())).collect();
            told = logs.iter().map(Vec::len).collect();
            moments.extend(timeline.extend(news));
        };
        for (number, (client, size, pieces)) in talks.iter().enumerate() {
            let (now, uid) = (number as i64 * 1_000, number as u64 + 1);
            let (local, remote) = (format!("10.0.0.{client}:{}", 5_000 + number), SERVER.to_owned());
            let payload = &b"abcde"[..*size as usize];
            let talk = [
                (*client, connected(&local, &remote)), (3, accepted(&remote, &local)),
                (*client, written(0, *size)), (3, received(0, payload)),
            ];
            for (at, (host, event)) in talk.into_iter().enumerate() {
                logs[host].push((now + at as i64 * 10 + skews[host], uid, event));
                // What happened so far is told now, or later.
                if at == *pieces {
                    piece(&logs, &mut moments);
                }
            }
        }
        piece(&logs, &mut moments);
        prop_assert_eq!(moments.len(), talks.len() * 4);
        keeps_orders(&moments, 4)?;
        prop_assert_eq!(moments.iter().filter(|moment| moment.cause.is_some()).count(), talks.len() * 2);
    }

    /// Where clocks are within their bounds, nothing is told of a contradiction, and what is said to come first truly did.
    #[test]
    fn clocks_within_their_bounds_never_lie(
        deeds in prop::collection::vec((0usize..3, 0usize..3, any::<bool>(), 1_000i64..100_000, 1i64..1_500), 1..20),
        errors in prop::collection::vec(-500i64..500, 3),
    ) {
        let (mut events, effects) = deeds_of(deeds);
        events.sort_by_key(|(at, _, _, _)| *at);
        let bounds: Vec<i64> = errors.iter().map(|error| error.abs()).collect();
        let mut logs: Vec<Vec<(i64, u64, Event)>> = vec![Vec::new(); 3];
        let mut places = Vec::new();
        for (at, host, uid, event) in events {
            places.push((host, logs[host].len()));
            logs[host].push((at + errors[host], uid, event));
        }
        let hosts: Vec<Vec<Told>> = logs.into_iter().map(log).collect();
        let moments = merge(&hosts, &bounds);
        prop_assert!(moments.iter().all(|moment| moment.before_cause.is_none()), "{moments:?}");
        prop_assert_eq!(moments.iter().filter(|moment| moment.cause.is_some()).count(), effects);
        let hosts = bounded(&hosts, &bounds);
        let relations = Relations::of(&hosts);
        for (late, other) in places.iter().enumerate() {
            for one in &places[..late] {
                let said = relations.precedence(*one, *other);
                prop_assert!(!matches!(said, Precedence::After { .. } | Precedence::CertainlyAfter), "{one:?} {other:?} {said:?}");
            }
        }
    }
}

/// What three hosts do, and how much of it is caused by another one: each deed is a datagram or a byte from one to the other, sent at a time and
/// as long on its way; or, where both are the same, nothing that leads to anything.
fn deeds_of(deeds: Vec<(usize, usize, bool, i64, i64)>) -> (Vec<(i64, usize, u64, Event)>, usize) {
    let address = |host: usize, port: usize| format!("10.0.0.{host}:{port}");
    let mut events = Vec::new();
    let mut effects = 0;
    // From each host to each other one, there is a connection: how far it is, and when its last byte came.
    let mut streams = [[(0, 0); 3]; 3];
    for host in 0..3 {
        events.push((0, host, 99, Event::Bound { local: endpoint(&address(host, 6_000)) }));
        for other in (0..3).filter(|other| *other != host) {
            let (local, remote) = (address(host, 5_000 + other), address(other, 80));
            events.push((1, host, (10 + other) as u64, connected(&local, &remote)));
            events.push((2, other, (20 + host) as u64, accepted(&remote, &local)));
            effects += 1;
        }
    }
    let mut deeds = deeds;
    deeds.sort_by_key(|(_, _, _, at, _)| *at);
    for (host, other, byte, at, way) in deeds {
        let (source, destination) = (address(host, 6_000), address(other, 6_000));
        let (to, from) = ((10 + other) as u64, (20 + host) as u64);
        if host == other {
            events.push((at, host, 98, written(0, 1)));
            continue;
        }
        effects += 1;
        if byte {
            let (offset, last) = &mut streams[host][other];
            *last = (at + way).max(*last);
            events.push((at, host, to, written(*offset, 1)));
            events.push((*last, other, from, received(*offset, b"x")));
            *offset += 1;
        } else {
            let to = Event::Sent { destination: Some(endpoint(&destination)), size: 1, reply_to_event: 0 };
            events.push((at, host, 99, to));
            events.push((at + way, other, 99, datagram(&source, &destination, 1)));
        }
    }
    (events, effects)
}

fn keeps_orders(moments: &[Moment], hosts: usize) -> Result<(), TestCaseError> {
    for host in 0..hosts {
        let seqs: Vec<u64> = moments.iter().filter(|m| m.host == host).map(|m| m.record.seq).collect();
        prop_assert_eq!(&seqs, &(1..=seqs.len() as u64).collect::<Vec<_>>());
    }
    for (at, moment) in moments.iter().enumerate() {
        if let Some((host, cause)) = &moment.cause {
            let cause_at = moments.iter().position(|m| m.host == *host && m.record.seq == cause.seq).unwrap();
            prop_assert!(cause_at < at);
        }
    }
    Ok(())
}
