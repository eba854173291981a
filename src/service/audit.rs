//! Where it is written down what was done: a file of lines ([`crate::model::audit`]) that only its user may read.
//!
//! Invariants: a change is begun only when the line that says so is in the file. No line is ever half of one. What cannot be written about
//! the end of a change, or of what the agent does by itself, is kept, and written before anything else may begin.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use crate::model::audit::{self, Deed, Ended};
use crate::model::errno::Errno;
use crate::model::id::{InstanceId, Principal};
use crate::model::own_deed::{OwnDeed, Witness};
use crate::model::policy::{Right, Rpc};
use crate::model::refusal::Refusal;
use crate::model::time::{Clock, Timestamp};
use crate::pki::{PrivateFileError, make_private_directory, may_make};

/// How many lines that could not be written are kept. How many more there were is told when they are written.
const OWED: usize = 65_536;
/// How many denials of one principal are written down within [`DENIAL_SPAN`]. How many more there were is told in one line.
const DENIALS: u64 = 16;
/// The time within which they are counted, in nanoseconds.
const DENIAL_SPAN: i64 = 1_000_000_000;
/// How many principals are counted for at a time.
const DENIED: usize = 1024;

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFile {
    /// The file. Full ones are beside it: `.1` is the newest of them.
    pub path: PathBuf,
    /// How many bytes a file may have; the next line then begins another one.
    pub bytes: u64,
    /// How many full ones are kept.
    pub kept: u32,
}

impl AuditFile {
    /// How large one is where nobody says.
    pub const USUAL_BYTES: u64 = 64 << 20;
    /// How many are kept.
    pub const USUAL_KEPT: u32 = 8;

    /// One that is there, or is to be made.
    pub fn at(path: PathBuf) -> Self {
        Self { path, bytes: Self::USUAL_BYTES, kept: Self::USUAL_KEPT }
    }
}

/// Why nothing can be written down.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuditError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// Another agent writes to it.
    #[error("{0}: another agent writes its records there: give each one a file of its own (--audit)")]
    InUse(String),
}

/// Writes records.
pub struct Audit {
    file: AuditFile,
    instance: InstanceId,
    clock: Arc<dyn Clock>,
    next: AtomicU64,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    size: u64,
    /// Lines on what was done that could not be written.
    owed: VecDeque<String>,
    /// How many more there were.
    lost: u64,
    /// The last line could not be written, and that was told.
    failing: bool,
    denials: Denials,
}

/// The denials of lately, so that whoever asks again and again for what he may not have does not fill the file.
#[derive(Default)]
struct Denials {
    since: Timestamp,
    counts: HashMap<Principal, u64>,
}

impl Audit {
    /// Opens the file, and begins a life in it.
    pub fn open(file: AuditFile, instance: InstanceId, clock: Arc<dyn Clock>) -> Result<Self, AuditError> {
        if let Some(parent) = file.path.parent() {
            make_private_directory(parent)?;
        }
        let open = open_file(&file.path)?;
        let size = private_size(&file.path, &open)?;
        let open = Mutex::new(Open::of(open, size));
        let audit = Self { file, instance, clock, next: AtomicU64::new(1), open };
        let first = audit::opened(audit.clock.now(), &audit.instance);
        let written = audit.locked().put(&first);
        written.map_err(|error| PrivateFileError::new(&audit.file.path, &error))?;
        Ok(audit)
    }

    /// Whether the file could be opened, or made where it is not there. Makes nothing, and writes nothing.
    pub fn check(AuditFile { path, .. }: &AuditFile) -> Result<(), AuditError> {
        match options().open(path) {
            Ok(file) => private_size(path, &locked(path, file)?).map(drop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(may_make(path)?),
            Err(error) => Err(PrivateFileError::new(path, &error).into()),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Writes down that somebody is about to do something; where that cannot be written, it must not be done.
    pub(super) fn begin(self: &Arc<Self>, deed: Deed) -> Result<Entry, Refusal> {
        let mut open = self.locked();
        // Under the lock, so that numbers stand in the file in their order.
        let number = self.next.load(Ordering::Relaxed);
        self.append(&mut open, &audit::begun(self.clock.now(), number, &deed)).map_err(|error| {
            let errno = Errno::new(error.raw_os_error().unwrap_or(libc::EIO));
            Refusal::AuditUnavailable { errno }
        })?;
        self.next.store(number + 1, Ordering::Relaxed);
        Ok(Entry { audit: Arc::clone(self), number, deed, open: true })
    }

    /// Writes down that somebody has asked for what none of his roles allows. Nothing was done, so nothing depends on it.
    pub(super) fn denied(&self, who: &Principal, rpc: Rpc, right: Right) {
        let now = self.clock.now();
        let mut open = self.locked();
        if self.tell_denials(&mut open, now).is_ok() && open.denials.counts_in(who, now) {
            // It is told that it could not be written.
            let _ = self.append(&mut open, &audit::denied(now, who, rpc, right));
        }
    }

    /// Opens the file again where another program has put it aside: what comes from now on goes to a new one.
    pub fn reopen(&self) -> Result<(), AuditError> {
        let mut open = self.locked();
        if self.is_in_place(&open) {
            return Ok(());
        }
        let file = open_file(&self.file.path)?;
        let mut next = Open { size: private_size(&self.file.path, &file)?, ..Open::of(file, 0) };
        let begun = next.put(&audit::opened(self.clock.now(), &self.instance));
        begun.map_err(|error| PrivateFileError::new(&self.file.path, &error))?;
        (open.file, open.size) = (next.file, next.size);
        Ok(())
    }

    /// Whether the file is still where it was opened.
    fn is_in_place(&self, open: &Open) -> bool {
        let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let there = fs::metadata(&self.file.path).map(place);
        there.is_ok_and(|there| open.file.metadata().is_ok_and(|ours| place(ours) == there))
    }

    fn end(&self, number: u64, deed: &Deed, ended: &Ended) {
        self.append_or_owe(audit::ended(self.clock.now(), number, deed, ended));
    }

    /// Writes a line on what was done, now or when it can be written.
    fn append_or_owe(&self, line: String) {
        let mut open = self.locked();
        if self.append(&mut open, &line).is_ok() {
            return;
        }
        if open.owed.len() < OWED {
            open.owed.push_back(line);
        } else {
            open.lost += 1;
        }
    }

    fn append(&self, open: &mut Open, line: &str) -> io::Result<()> {
        let written = self.pay(open).and_then(|()| self.put(open, line));
        let failed = written.as_ref().err().filter(|_| !open.failing);
        if let Some(error) = failed {
            tracing::error!(%error, path = %self.file.path.display(), "records cannot be written: nothing is begun before they can");
        }
        open.failing = written.is_err();
        written
    }

    /// Writes what was to be written before.
    fn pay(&self, open: &mut Open) -> io::Result<()> {
        while let Some(owed) = open.owed.front().cloned() {
            self.put(open, &owed)?;
            open.owed.pop_front();
        }
        let now = self.clock.now();
        if open.lost > 0 {
            self.put(open, &audit::lost(now, open.lost))?;
            open.lost = 0;
        }
        self.tell_denials(open, now)
    }

    /// Tells how many denials were not written down each, when their time is over.
    fn tell_denials(&self, open: &mut Open, now: Timestamp) -> io::Result<()> {
        if !open.denials.is_over(now) {
            return Ok(());
        }
        self.tell_all_denials(open, now)
    }

    fn tell_all_denials(&self, open: &mut Open, now: Timestamp) -> io::Result<()> {
        let more: Vec<(Principal, u64)> = open.denials.counts.drain().filter(|(_, count)| *count > DENIALS).collect();
        let mut told = Ok(());
        for (who, count) in more {
            let written = self.put(open, &audit::denied_more(now, &who, count - DENIALS));
            if written.is_err() {
                open.lost += 1;
                told = written;
            }
        }
        told
    }

    fn put(&self, open: &mut Open, line: &str) -> io::Result<()> {
        if open.size > 0 && open.size + line.len() as u64 > self.file.bytes {
            self.rotate(open)?;
        }
        open.put(line)
    }

    /// Puts the file aside, and begins another one.
    fn rotate(&self, open: &mut Open) -> io::Result<()> {
        let aside = |number: u32| {
            let mut name = self.file.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        match self.file.kept {
            // Another program has put it aside already.
            _ if !self.is_in_place(open) => {}
            0 => fs::remove_file(&self.file.path)?,
            kept => {
                for number in (1..kept).rev().filter(|number| aside(*number).exists()) {
                    fs::rename(aside(number), aside(number + 1))?;
                }
                fs::rename(&self.file.path, aside(1))?;
            }
        }
        let next = options().create_new(true).open(&self.file.path)?;
        // Nobody else can have it: it was not there.
        next.try_lock().map_err(io::Error::from)?;
        (open.file, open.size) = (next, 0);
        open.put(&audit::opened(self.clock.now(), &self.instance))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Audit {
    fn see(&self, deed: &OwnDeed) {
        if *deed == OwnDeed::Stopped {
            // Where that fails, so does what comes next.
            let _ = self.tell_all_denials(&mut self.locked(), self.clock.now());
        }
        self.append_or_owe(audit::own(self.clock.now(), deed));
    }
}

impl Denials {
    /// Counts one, and says whether it is to be written down.
    fn counts_in(&mut self, who: &Principal, now: Timestamp) -> bool {
        if self.counts.is_empty() {
            self.since = now;
        }
        let count = self.counts.entry(who.clone()).or_default();
        *count += 1;
        *count <= DENIALS
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.counts.len() >= DENIED || now.nanos().saturating_sub(self.since.nanos()) >= DENIAL_SPAN
    }
}

impl Open {
    fn of(file: File, size: u64) -> Self {
        Self { file, size, owed: VecDeque::new(), lost: 0, failing: false, denials: Denials::default() }
    }

    /// Writes a line, or nothing.
    fn put(&mut self, line: &str) -> io::Result<()> {
        match self.file.write_all(line.as_bytes()) {
            Ok(()) => {
                self.size += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half of it may be there. Where that cannot be taken back, the next line cannot be written either.
                let _ = self.file.set_len(self.size);
                Err(error)
            }
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600);
    options
}

fn open_file(path: &Path) -> Result<File, AuditError> {
    locked(path, options().create(true).open(path).map_err(|error| PrivateFileError::new(path, &error))?)
}

/// The file, which nobody else writes to from now on.
fn locked(path: &Path, file: File) -> Result<File, AuditError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AuditError::InUse(path.display().to_string())),
        Err(TryLockError::Error(error)) => Err(PrivateFileError::new(path, &error).into()),
    }
}

/// The size of a file that nobody else can read.
fn private_size(path: &Path, file: &File) -> Result<u64, AuditError> {
    let metadata = file.metadata().map_err(|error| PrivateFileError::new(path, &error))?;
    if metadata.mode() & 0o077 != 0 {
        let path = path.display().to_string();
        return Err(PrivateFileError::NotPrivate { path, how: "read", mode: "600" }.into());
    }
    Ok(metadata.len())
}

/// A change that has been written down, and whose end has not.
pub(super) struct Entry {
    audit: Arc<Audit>,
    number: u64,
    deed: Deed,
    open: bool,
}

impl Entry {
    /// Writes down how it has ended.
    pub(super) fn end(mut self, ended: &Ended) {
        self.open = false;
        self.audit.end(self.number, &self.deed, ended);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.open {
            self.audit.end(self.number, &self.deed, &Ended::unknown());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;
    use serde_json::Value;

    /// Goes when it is told to.
    #[derive(Default)]
    struct HandClock(AtomicI64);

    impl Clock for HandClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
        }

        fn at_realtime(&self, nanos: i64) -> Timestamp {
            Timestamp::from_nanos(nanos)
        }
    }

    fn audit(file: &AuditFile) -> Result<Arc<Audit>, AuditError> {
        audit_at(file, Arc::default())
    }

    fn audit_at(file: &AuditFile, clock: Arc<HandClock>) -> Result<Arc<Audit>, AuditError> {
        Audit::open(file.clone(), InstanceId::from_random([7; 16]), clock).map(Arc::new)
    }

    fn deed(session: &str) -> Deed {
        let alice = Principal::parse("alice").unwrap();
        let (owner, session) = (alice.clone(), session.to_owned());
        Deed { who: alice, rpc: Rpc::ResetSession, owner, session, details: Vec::new() }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn records(path: &Path) -> Vec<String> {
        let short = |line: &Value| {
            let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}{}", word("record"), line["number"], word("outcome"))
        };
        lines(path).iter().map(short).collect()
    }

    #[test]
    fn a_change_stands_before_and_after_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile::at(folder.path().join("deep/er/audit.jsonl"));
        let audit = audit(&file).unwrap();
        let entry = audit.begin(deed("lab")).unwrap();
        assert_eq!(records(&file.path), ["opened null", "begun 1"]);
        drop(audit.begin(deed("lab")).unwrap());
        entry.end(&Ended::done(Vec::new()));
        audit.denied(&Principal::owner(), Rpc::ResetSession, Right::Use);
        assert_eq!(
            records(&file.path),
            ["opened null", "begun 1", "begun 2", "ended 2unknown", "ended 1done", "denied null"]
        );
        let metadata = fs::metadata(&file.path).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_flood_of_denials_is_a_few_lines_and_how_many_more_there_were() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile::at(folder.path().join("audit.jsonl"));
        let clock = Arc::new(HandClock::default());
        let audit = audit_at(&file, Arc::clone(&clock)).unwrap();
        let mallory = Principal::parse("mallory").unwrap();
        let deny = |who: &Principal| audit.denied(who, Rpc::ResetSession, Right::Use);
        (0..1000).for_each(|_| deny(&mallory));
        // It hides neither those of others nor what is done meanwhile.
        deny(&Principal::owner());
        audit.begin(deed("lab")).unwrap().end(&Ended::done(Vec::new()));
        let denied = |who: &str| {
            let all = lines(&file.path);
            let of_him = all.into_iter().filter(|line| line["record"] == "denied" && line["principal"] == who);
            of_him.collect::<Vec<_>>()
        };
        assert_eq!((denied("mallory").len(), denied("owner").len()), (16, 1));
        clock.0.store(DENIAL_SPAN, Ordering::Relaxed);
        deny(&mallory);
        let told = denied("mallory");
        assert_eq!((&told[16]["count"], told.len()), (&984.into(), 18));
        (0..20).for_each(|_| deny(&mallory));
        audit.see(&OwnDeed::Stopped);
        assert_eq!(denied("mallory").last().unwrap()["count"], 5);
        assert_eq!(records(&file.path).last().unwrap(), "stopped null");
        let told: u64 = denied("mallory").iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!(told, 1021, "each is counted once");
    }

    #[test]
    fn a_file_that_was_put_aside_is_left_when_that_is_said_or_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile { bytes: 600, ..AuditFile::at(folder.path().join("audit.jsonl")) };
        let audit = audit(&file).unwrap();
        audit.reopen().unwrap();
        assert_eq!(records(&file.path), ["opened null"], "it was where it belongs");
        let aside = folder.path().join("by-hand");
        fs::rename(&file.path, &aside).unwrap();
        let entry = audit.begin(deed("lab")).unwrap();
        audit.reopen().unwrap();
        entry.end(&Ended::done(Vec::new()));
        assert_eq!(records(&aside), ["opened null", "begun 1"]);
        assert_eq!(records(&file.path), ["opened null", "ended 1done"]);
        // Something that others may read has taken its place: it is not written to.
        fs::rename(&file.path, &aside).unwrap();
        fs::write(&file.path, "").unwrap();
        assert!(matches!(audit.reopen(), Err(AuditError::File(_))));
        audit.see(&OwnDeed::Draining);
        assert_eq!(records(&aside).last().unwrap(), "draining null");
        fs::remove_file(&file.path).unwrap();
        while !file.path.exists() {
            audit.see(&OwnDeed::Draining);
        }
        assert_eq!(records(&file.path), ["opened null", "draining null"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else was put aside");
    }

    /// What the agent does by itself is not held up by a record that cannot be written; how many there were is told.
    #[test]
    fn what_cannot_be_written_is_kept_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile { bytes: 4096, kept: 1, ..AuditFile::at(folder.path().join("audit.jsonl")) };
        let in_the_way = folder.path().join("audit.jsonl.1");
        fs::create_dir_all(in_the_way.join("not empty")).unwrap();
        let audit = audit(&file).unwrap();
        while audit.locked().owed.is_empty() {
            audit.see(&OwnDeed::Draining);
        }
        (1..OWED + 7).for_each(|_| audit.see(&OwnDeed::Draining));
        assert!(audit.begin(deed("lab")).is_err());
        fs::remove_dir_all(&in_the_way).unwrap();
        audit.begin(deed("lab")).unwrap().end(&Ended::done(Vec::new()));
        let told = [lines(&in_the_way), lines(&file.path)].concat();
        assert_eq!(told.iter().find(|line| line["record"] == "lost").unwrap()["count"], 7);
    }

    #[test]
    fn a_file_has_one_writer_and_no_other_reader() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile::at(folder.path().join("audit.jsonl"));
        let first = audit(&file).unwrap();
        assert!(matches!(audit(&file), Err(AuditError::InUse(_))));
        assert!(matches!(Audit::check(&file), Err(AuditError::InUse(_))));
        drop(first);
        Audit::check(&file).unwrap();
        drop(audit(&file).unwrap());
        assert_eq!(records(&file.path), ["opened null", "opened null"], "a second life goes on in it");
        fs::set_permissions(&file.path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        for tried in [audit(&file).map(drop), Audit::check(&file)] {
            assert!(matches!(tried, Err(AuditError::File(PrivateFileError::NotPrivate { .. }))));
        }
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile { bytes: 600, kept: 2, ..AuditFile::at(folder.path().join("audit.jsonl")) };
        let audit = audit(&file).unwrap();
        for _ in 0..20 {
            audit.begin(deed("lab")).unwrap().end(&Ended::done(Vec::new()));
        }
        let names = [".2", ".1", ""].map(|end| folder.path().join(format!("audit.jsonl{end}")));
        let mut numbers = Vec::new();
        for name in &names {
            assert!(fs::metadata(name).unwrap().len() <= 600);
            assert_eq!(fs::metadata(name).unwrap().mode() & 0o777, 0o600);
            let lines = lines(name);
            assert_eq!(lines[0]["record"], "opened", "each file says whose it is");
            numbers.extend(lines.iter().filter(|line| line["record"] == "begun").map(|line| line["number"].clone()));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        let last: Vec<Value> = (21 - numbers.len() as u64..=20).map(Value::from).collect();
        assert_eq!(numbers, last, "without a gap up to the last one");
    }

    /// Here the next file cannot be begun, because the full one cannot be put aside.
    #[test]
    fn nothing_begins_that_cannot_be_written_down_and_no_end_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile { bytes: 400, kept: 1, ..AuditFile::at(folder.path().join("audit.jsonl")) };
        let in_the_way = folder.path().join("audit.jsonl.1");
        fs::create_dir_all(in_the_way.join("not empty")).unwrap();
        let audit = audit(&file).unwrap();
        let first = audit.begin(deed("lab")).unwrap();
        let second = audit.begin(deed("a-rather-long-name-of-a-session-to-fill-it-up")).err();
        assert!(matches!(second, Some(Refusal::AuditUnavailable { .. })), "{second:?}");
        first.end(&Ended::done(vec![("x", audit::Detail::Text("y".repeat(200)))]));
        assert_eq!(records(&file.path), ["opened null", "begun 1"]);
        assert!(audit.begin(deed("lab")).is_err());
        fs::remove_dir_all(&in_the_way).unwrap();
        let entry = audit.begin(deed("lab")).unwrap();
        entry.end(&Ended::done(Vec::new()));
        // One full file is kept: that of the first line is gone by now.
        assert_eq!(records(&in_the_way), ["opened null", "ended 1done"]);
        assert_eq!(records(&file.path), ["opened null", "begun 2", "ended 2done"]);
    }
}
