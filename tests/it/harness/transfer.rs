//! TransferSocket as a client of any language sees it: frames out, frames in.

use std::time::Duration;

use bytes::Bytes;
use farsock::wire::pb;
use farsock::wire::pb::transfer_socket_request::Frame;
use farsock::wire::pb::transfer_socket_response::Frame as Answer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Agent, Refused, within};

/// A stream that has been begun.
pub struct Stream {
    frames: Option<mpsc::Sender<pb::TransferSocketRequest>>,
    answers: Streaming<pb::TransferSocketResponse>,
}

impl Agent {
    /// Begins a stream with this frame.
    pub async fn transfer(&self, first: Frame) -> Stream {
        let (frames, sent) = mpsc::channel(16);
        let mut sockets = self.sockets();
        let answers = within("an answer", sockets.transfer_socket(ReceiverStream::new(sent))).await.unwrap();
        let mut stream = Stream { frames: Some(frames), answers: answers.into_inner() };
        stream.send(first).await;
        stream
    }

    /// Takes a connection over for good.
    pub async fn own(&self, id: &str) -> Stream {
        let open = pb::TransferOpen { socket_id: id.into(), own: true, ..Default::default() };
        let mut stream = self.transfer(Frame::Open(open)).await;
        stream.opened().await;
        stream
    }

    /// Takes a connection over, which must work.
    pub async fn take_over(&self, id: &str) -> (Stream, pb::TransferOpened) {
        let mut stream = self.transfer(open(id)).await;
        let opened = stream.opened().await;
        (stream, opened)
    }
}

/// The first frame for a connection that is there.
pub fn open(id: &str) -> Frame {
    Frame::Open(pb::TransferOpen { socket_id: id.into(), ..Default::default() })
}

/// The first frame for a new connection.
pub fn create(id: &str, address: &str) -> pb::TransferCreate {
    let tcp = super::tcp::connecting_to(address);
    pb::TransferCreate { socket_id: id.into(), tcp: Some(tcp), ..Default::default() }
}

impl Stream {
    /// Sends a frame. Nobody may be there to take it any more.
    pub async fn send(&mut self, frame: Frame) {
        let frames = self.frames.as_ref().expect("the requests have not been ended");
        let _ = within("room for a frame", frames.send(pb::TransferSocketRequest { frame: Some(frame) })).await;
    }

    pub async fn data(&mut self, bytes: impl Into<Bytes>) {
        self.send(Frame::Data(bytes.into())).await;
    }

    pub async fn window(&mut self, size: u64) {
        self.send(Frame::Window(size)).await;
    }

    pub async fn end(&mut self) {
        self.send(Frame::End(pb::TransferEnd {})).await;
    }

    pub async fn abort(&mut self) {
        self.send(Frame::Abort(pb::TransferAbort {})).await;
    }

    /// Closes the socket; the kernel gets what came before within this time.
    pub async fn close(&mut self, timeout: Duration) {
        self.send(Frame::Close(pb::TransferClose { timeout: Some(timeout.try_into().unwrap()) })).await;
    }

    /// Sends no more frames, and goes on reading.
    pub fn end_requests(&mut self) {
        self.frames = None;
    }

    /// The next frame; none at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Answer>, Status> {
        let answer = within("a frame", self.answers.message()).await?;
        Ok(answer.map(|answer| answer.frame.expect("a frame is never empty")))
    }

    /// The next frame that is no `window`.
    pub async fn frame(&mut self) -> Answer {
        loop {
            match self.next().await.unwrap().expect("the stream goes on") {
                Answer::Window(_) => {}
                frame => return frame,
            }
        }
    }

    pub async fn opened(&mut self) -> pb::TransferOpened {
        match self.frame().await {
            Answer::Opened(opened) => opened,
            other => panic!("not the first frame: {other:?}"),
        }
    }

    /// So many bytes, which must come.
    pub async fn read(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < size {
            match self.frame().await {
                Answer::Data(data) => bytes.extend(data),
                other => panic!("{size} bytes were expected, {} came, and then {other:?}", bytes.len()),
            }
        }
        assert_eq!(bytes.len(), size);
        bytes
    }

    /// The peer's end, which must be the next frame.
    pub async fn peer_end(&mut self) {
        let frame = self.frame().await;
        assert!(matches!(frame, Answer::End(_)), "{frame:?}");
    }

    /// The end of the socket, which must be the next frame and the last one.
    pub async fn closed(&mut self) -> pb::SocketClosed {
        let Answer::Closed(closed) = self.frame().await else { panic!("something else than its end") };
        assert_eq!(self.next().await.unwrap(), None);
        closed
    }

    /// The end of the stream, which must be a good one.
    pub async fn finished(&mut self) {
        while let Some(frame) = self.next().await.unwrap() {
            assert!(matches!(frame, Answer::Window(_)), "{frame:?}");
        }
    }

    /// The status that it ends with.
    pub async fn refused(&mut self) -> Refused {
        loop {
            match self.next().await {
                Ok(Some(Answer::Window(_) | Answer::Opened(_))) => {}
                Ok(other) => panic!("no status, but {other:?}"),
                Err(status) => return status.into(),
            }
        }
    }
}
