//! Exercises: what was asked, what was seen, and whether they agree. Pure.
//!
//! A file is read as it was typed ([`mod@file`]), checked as a whole ([`check`]) and becomes a [`plan`]. What agents tell is merged into one
//! [`timeline`], drawn as a [`picture`], and judged by [`expectation`]s; the [`outcome`] says how it went.

pub mod advice;
pub mod amount;
mod causes;
pub mod check;
pub mod clock;
pub mod course;
mod embedded;
pub mod expectation;
pub mod explain;
pub mod facts;
pub mod fields;
pub mod file;
mod flow;
mod heads;
pub mod instant;
pub mod inventory;
pub mod matching;
pub mod narration;
pub mod neighbours;
pub mod networks;
pub mod outcome;
pub mod picture;
pub mod plan;
pub mod report;
pub mod schema;
mod scope;
pub mod shapes;
pub mod template;
pub mod timeline;
mod words;
