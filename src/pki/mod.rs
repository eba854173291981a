//! Certificates of a lab: what agents and controllers show each other, the files that it stands in, and who issues it.
//!
//! An [`Identity`] is read from three files: a certificate, its key, and the CA that those at the other end are signed by. It becomes a
//! configuration of TLS, always of version 1.3, for whoever listens or for whoever connects. [`Authority`] issues such files;
//! [`Certificate`] says what stands in one, and [`problem`] why somebody's was not taken.
//!
//! Invariant: a key is read only from a file that nobody else can read, and written only into one.

mod authority;
mod certificate;
mod identity;
mod pem;
mod private;
mod words;

pub use crate::pki::authority::{Authority, Issued, Subject};
pub use crate::pki::certificate::{Certificate, Kind, NameProblem};
pub use crate::pki::identity::{Identity, IdentityFiles, PkiError};
pub use crate::pki::private::{
    PrivateFileError, make_private_directory, may_make, may_make_in, read_private, read_trusted, write_private,
    write_public,
};
pub use crate::pki::words::{problem, speaks_no_tls};
