//! How a run went: told as lines, and shown to people and to other programs.
//!
//! What happens becomes [lines](mod@line) at once ([`tell`]). Every view is drawn from lines alone, so that a run that was kept shows again
//! just as it was: the [`text`] on a terminal, the [`page`] for a browser, [`junit`] and an
//! [`annotation`] for CI systems.

pub mod annotation;
pub mod junit;
pub mod line;
pub mod page;
pub mod tell;
pub mod text;
