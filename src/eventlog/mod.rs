//! What happened, numbered, with honest gaps.
//!
//! A [`Ring`](ring::Ring) keeps the newest records of one session; a [`Hub`](hub::Hub) is the ring with its lock, its clock and its
//! waiters; a [`Cursor`](cursor::Cursor) is a reader's place in it. Readers have no queue of their own: a slow one costs nothing but a
//! number, and is told what it missed. In a lossless log, [`Holds`](holds::Holds) says what may not go yet.

pub mod cursor;
pub mod holds;
pub mod hub;
pub mod ring;
