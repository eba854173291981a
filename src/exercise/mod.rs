//! Exercises: what was asked, what was seen, and whether they agree. Pure.
//!
//! A file is read as it was typed ([`mod@file`]), checked as a whole ([`check`]) and becomes a [`plan`]. What agents tell is merged into one
//! [`timeline`], drawn as a [`picture`], and judged by [`expectation`]s; the [`outcome`] says how it went.

pub mod amount;
pub mod check;
pub mod clock;
pub mod expectation;
pub mod fields;
pub mod file;
pub mod narration;
pub mod outcome;
pub mod picture;
pub mod plan;
pub mod report;
pub mod template;
pub mod timeline;
mod words;
