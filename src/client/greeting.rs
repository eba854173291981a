//! The first words with an agent. A connection counts only when the agent has answered: whatever it has against whoever comes is then told
//! where the connection is made, and not lost among calls.
//!
//! HTTP/2 begins with the client's preface (RFC 9113, section 3.4), so it is sent here, and swallowed when h2 sends it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of an alert, which is how TLS answers what is none. RFC 8446, section 5.1. HTTP/2 begins with the length of a frame, and the
/// first one is never so long.
const ALERT: u8 = 21;

/// Reads larger than this go by the buffer that holds the agent's first words.
const BUFFER: usize = 256;

/// A connection on which the agent has answered.
pub(super) struct Greeted<S> {
    stream: BufReader<S>,
    /// How much of the preface h2 has yet to send.
    to_swallow: usize,
}

impl<S: AsyncRead> Greeted<S> {
    /// The agent's first words.
    pub(super) fn first_words(&self) -> &[u8] {
        self.stream.buffer()
    }
}

/// How an agent has answered.
pub(super) enum Answer<S> {
    /// As one does.
    Greeted(Greeted<S>),
    /// Not at all: it has ended the connection.
    Nothing,
    /// By an alert of TLS.
    Alert,
}

/// Sends the preface, and waits for the agent's first word.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> io::Result<Answer<S>> {
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    // Where the agent has ended the connection already, why it has is still to be read.
    let sent = stream.write_all(PREFACE).await;
    let sent = if sent.is_ok() { stream.flush().await } else { sent };
    match stream.fill_buf().await? {
        [] => sent.map(|()| Answer::Nothing),
        [ALERT, ..] => Ok(Answer::Alert),
        _ => sent.map(|()| Answer::Greeted(Greeted { stream, to_swallow: PREFACE.len() })),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.to_swallow > 0 && !buf.is_empty() {
            let swallowed = self.to_swallow.min(buf.len());
            self.to_swallow -= swallowed;
            return Poll::Ready(Ok(swallowed));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.to_swallow > 0 {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_write(cx, first);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn the_preface_is_sent_once_however_it_is_cut() {
        for cut in [1, 10, 24, 30] {
            let (near, mut far) = tokio::io::duplex(1 << 10);
            far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            let Answer::Greeted(mut greeted) = greet(near).await.unwrap() else { panic!("it has answered") };
            let all = [PREFACE, b"and then frames"].concat();
            for piece in all.chunks(cut) {
                let slices = [io::IoSlice::new(&[]), io::IoSlice::new(piece)];
                let sent = greeted.write_vectored(&slices).await.unwrap();
                greeted.write_all(&piece[sent..]).await.unwrap();
            }
            let mut first = [0; 9];
            greeted.read_exact(&mut first).await.unwrap();
            assert_eq!(first[3], 4, "what the agent said first is still there");
            drop(greeted);
            let mut said = Vec::new();
            far.read_to_end(&mut said).await.unwrap();
            assert_eq!(said, all);
        }
    }
}
