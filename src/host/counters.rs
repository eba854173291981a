//! The kernel's network counters, by the names of nstat(8).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::sync::{Mutex, PoisonError};

use crate::model::errno::Errno;
use crate::model::id::Principal;
use crate::model::time::Timestamp;

/// Counters by name.
pub type Counters = BTreeMap<String, i64>;

/// Reads all counters of the calling thread's network namespace. proc(5): net/snmp, net/netstat, net/snmp6.
pub fn read() -> Result<Counters, Errno> {
    let file =
        |path: &str| fs::read_to_string(path).map_err(|error| Errno::new(error.raw_os_error().unwrap_or(libc::EIO)));
    let mut counters = parse_pairs_of_lines(&file("/proc/thread-self/net/snmp")?);
    counters.extend(parse_pairs_of_lines(&file("/proc/thread-self/net/netstat")?));
    // Without IPv6 there is no such file.
    counters.extend(parse_lines(&file("/proc/thread-self/net/snmp6").unwrap_or_default()));
    Ok(counters)
}

/// `Udp: InDatagrams NoPorts …` above `Udp: 17 2 …` becomes `UdpInDatagrams`, `UdpNoPorts`, …
fn parse_pairs_of_lines(text: &str) -> Counters {
    let mut counters = Counters::new();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((prefix, names)) = names.split_once(": ") else { continue };
        let values = values.split_whitespace().skip(1);
        for (name, value) in names.split_whitespace().zip(values) {
            if let Ok(value) = value.parse() {
                counters.insert(format!("{prefix}{name}"), value);
            }
        }
    }
    counters
}

fn parse_lines(text: &str) -> Counters {
    let pair = |line: &str| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Counters that a list of names asks for; a `*` at the end of a name stands for anything, an empty list for all.
pub fn wanted(counters: &Counters, names: &[String]) -> Counters {
    let fits = |counter: &str| {
        names.is_empty()
            || names.iter().any(|name| match name.strip_suffix('*') {
                Some(prefix) => counter.starts_with(prefix),
                None => counter == name,
            })
    };
    counters.iter().filter(|(name, _)| fits(name)).map(|(name, value)| (name.clone(), *value)).collect()
}

/// What has been added to each counter since an earlier reading. A counter that is new since began at zero.
pub fn difference(now: &Counters, before: &Counters) -> Counters {
    now.iter().map(|(name, value)| (name.clone(), value - before.get(name).copied().unwrap_or(0))).collect()
}

/// Readings that principals have put marks on.
#[derive(Debug)]
pub struct Marks {
    limit: usize,
    marks: Mutex<HashMap<Principal, VecDeque<Mark>>>,
}

/// A reading with a name.
#[derive(Debug, Clone)]
pub struct Mark {
    name: String,
    /// When it was read.
    pub time: Timestamp,
    /// What was read.
    pub counters: Counters,
}

impl Marks {
    /// No marks yet, and at most so many of each principal: the oldest goes.
    pub fn new(limit: u32) -> Self {
        Self { limit: limit as usize, marks: Mutex::new(HashMap::new()) }
    }

    /// Puts a mark on a reading.
    pub fn set(&self, principal: &Principal, name: &str, time: Timestamp, counters: Counters) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = marks.entry(principal.clone()).or_default();
        marks.retain(|mark| mark.name != name);
        marks.push_back(Mark { name: name.to_owned(), time, counters });
        while marks.len() > self.limit {
            marks.pop_front();
        }
    }

    /// How many the principal has that has most of them.
    pub fn most_of_one(&self) -> u64 {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.values().map(|marks| marks.len() as u64).max().unwrap_or(0)
    }

    /// The reading with this mark.
    pub fn get(&self, principal: &Principal, name: &str) -> Option<Mark> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(principal)?.iter().find(|mark| mark.name == name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_the_names_of_nstat() {
        let text = "Udp: InDatagrams NoPorts\nUdp: 17 2\nTcpExt: ListenOverflows\nTcpExt: 3\nbroken\n";
        let counters = parse_pairs_of_lines(text);
        let shown: Vec<_> = counters.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(shown, [("TcpExtListenOverflows", 3), ("UdpInDatagrams", 17), ("UdpNoPorts", 2)]);
        assert_eq!(parse_lines("Ip6InReceives   \t 5\nx\n"), Counters::from([("Ip6InReceives".into(), 5)]));
        let real = read().unwrap();
        assert!(real.contains_key("TcpExtListenOverflows") && real.contains_key("UdpRcvbufErrors"));
    }

    #[test]
    fn names_choose_and_marks_compare() {
        let before = Counters::from([("UdpA".to_owned(), 1), ("TcpB".to_owned(), 5)]);
        let now = Counters::from([("UdpA".to_owned(), 4), ("TcpB".to_owned(), 5), ("UdpC".to_owned(), 2)]);
        let udp = wanted(&difference(&now, &before), &["Udp*".to_owned()]);
        assert_eq!(udp, Counters::from([("UdpA".to_owned(), 3), ("UdpC".to_owned(), 2)]));
        assert_eq!(wanted(&now, &["TcpB".to_owned()]).len(), 1);
        assert_eq!(wanted(&now, &[]), now);
    }

    #[test]
    fn the_oldest_marks_are_forgotten() {
        let marks = Marks::new(2);
        let owner = Principal::owner();
        for name in ["a", "b", "a", "c"] {
            marks.set(&owner, name, Timestamp::default(), Counters::new());
        }
        assert!(
            marks.get(&owner, "b").is_none() && marks.get(&owner, "a").is_some() && marks.get(&owner, "c").is_some()
        );
        assert_eq!((marks.most_of_one(), Marks::new(2).most_of_one()), (2, 0));
    }
}
