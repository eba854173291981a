//! The words of the exercise language: what each verb takes, and what each value may be.

mod expect;
mod fitting;
pub(super) mod grammar;
mod sockets;
mod traffic;
mod values;

use std::time::Duration;

use crate::exercise::check::Checker;
use crate::exercise::fields::StepFile;
use crate::exercise::plan::Verb;
use crate::model::group::GroupChange;

/// The most connections that listen(2) lets wait.
const MAX_BACKLOG: u64 = 65_535;

/// The longest time that a file may state.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What a step does.
pub(super) fn verb(checker: &mut Checker<'_>, number: usize, host: usize, file: &StepFile) -> Option<Verb> {
    let mut words = Words { checker, number, host, file };
    if let Some(word) = &file.create {
        words.create(word)
    } else if let Some(word) = &file.listen {
        words.listen(word)
    } else if let Some(word) = &file.connect {
        words.connect(word)
    } else if let Some(socket) = &file.bind {
        words.bind(socket)
    } else if let Some(listener) = &file.accept {
        words.accept(listener)
    } else if let Some(socket) = &file.write {
        words.write(socket)
    } else if let Some(socket) = &file.send {
        words.send(socket)
    } else if let Some(socket) = &file.receive {
        words.receive(socket)
    } else if let Some(socket) = &file.transfer {
        words.transfer(socket)
    } else if let Some(socket) = &file.shutdown {
        words.shutdown(socket)
    } else if let Some(socket) = &file.close {
        words.close(socket)
    } else if let Some(socket) = &file.abort {
        words.abort(socket)
    } else if let Some(socket) = &file.set {
        words.set(socket)
    } else if let Some(socket) = &file.join {
        words.group("join", GroupChange::Join, socket)
    } else if let Some(socket) = &file.leave {
        words.group("leave", GroupChange::Leave, socket)
    } else if let Some(socket) = &file.block {
        words.group("block", GroupChange::Block, socket)
    } else if let Some(socket) = &file.unblock {
        words.group("unblock", GroupChange::Unblock, socket)
    } else if let Some(socket) = &file.filter {
        words.filter(socket)
    } else if let Some(socket) = &file.flush {
        words.flush(socket)
    } else if let Some(socket) = &file.disconnect {
        words.disconnect(socket)
    } else if let Some(question) = &file.resolve {
        words.resolve(question)
    } else if let Some(text) = &file.parse {
        words.parse(text)
    } else if let Some(events) = &file.order {
        words.order(events)
    } else {
        words.expect(file.expect.as_deref()?)
    }
}

/// One step on its way to a verb.
pub(super) struct Words<'a, 'b> {
    pub(super) checker: &'a mut Checker<'b>,
    pub(super) number: usize,
    pub(super) host: usize,
    pub(super) file: &'a StepFile,
}
