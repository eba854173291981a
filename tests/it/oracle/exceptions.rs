//! Where a socket of an agent is meant to go another way than a plain one, and why. A walk that finds another difference fails; a long one
//! that does not find all of these fails, too, so that none outlives its reason.

use std::collections::BTreeSet;

use farsock::wire::pb::Transport;

/// One difference that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exception {
    Waits,
    BrokenIsClosed,
    FailedShutdownChangesNothing,
    PeerIsRemembered,
    ReaderIsTold,
    NothingAfterTheEnd,
    EndedIsNotWatched,
}

const BOTH: &[Transport] = &[Transport::Tcp, Transport::Udp];
const TCP: &[Transport] = &[Transport::Tcp];

/// Every exception: with which transports it is met, and its reason.
const EXCEPTIONS: &[(Exception, &[Transport], &str)] = &[
    (
        Exception::Waits,
        BOTH,
        "where a program is told EAGAIN and has to wait by itself, an agent waits for it: what may not wait has timed out",
    ),
    (
        Exception::BrokenIsClosed,
        TCP,
        "a connection that is broken, and has nothing left to read, is of no use: its agent closes it, a program has to",
    ),
    (
        Exception::FailedShutdownChangesNothing,
        BOTH,
        "Linux answers ENOTCONN to shutdown(2) and ends the direction all the same, also of the connection that the socket gets later; of \
         an agent's socket, what fails changes nothing",
    ),
    (
        Exception::PeerIsRemembered,
        TCP,
        "getpeername(2) forgets the peer when both directions have ended; an agent's socket shows it until it is closed",
    ),
    (
        Exception::ReaderIsTold,
        TCP,
        "Linux tells a reset to one call: when a write was told, a reader comes to the end of what arrived before as if the peer had ended in \
         good order; an agent tells the reader, too, and closes the connection",
    ),
    (
        Exception::NothingAfterTheEnd,
        BOTH,
        "Linux hands out what has come, or comes, after shutdown(2) with SHUT_RD; an agent reads nothing more then, as POSIX has it",
    ),
    (
        Exception::EndedIsNotWatched,
        TCP,
        "when both directions have ended, nothing can come of a connection but its close: its agent waits for that, and does not tell \
         that it was reset meanwhile; GetSocket shows it",
    ),
];

/// The exceptions that walks have met.
#[derive(Debug, Default)]
pub struct Met(BTreeSet<Exception>);

impl Met {
    pub fn note(&mut self, exception: Exception) {
        self.0.insert(exception);
    }

    /// Fails if there is one that no walk has met.
    pub fn all_of(&self, transport: Transport) {
        for (exception, transports, reason) in EXCEPTIONS {
            let met = self.0.contains(exception);
            assert_eq!(met, transports.contains(&transport), "{exception:?} of {transport:?}: {reason}");
        }
    }
}
