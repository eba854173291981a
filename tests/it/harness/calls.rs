//! Words about calls and reports, and streams of events as tests read them.

use std::time::Duration;

use farsock::wire::pb;
use farsock::wire::pb::watch_events_response::Frame;
use tonic::{Status, Streaming};

use super::{Agent, Refused, within};

/// A duration, as protobuf has it.
pub fn span(duration: Duration) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: duration.as_secs().cast_signed(),
        nanos: duration.subsec_nanos().cast_signed(),
    })
}

/// Milliseconds, as protobuf has them.
pub fn millis(millis: u64) -> Option<prost_types::Duration> {
    span(Duration::from_millis(millis))
}

/// A moment or a length of time in nanoseconds.
pub fn nanos(seconds: i64, nanos: i32) -> i64 {
    seconds * 1_000_000_000 + i64::from(nanos)
}

/// A named call.
pub fn named(request_id: &str) -> pb::Call {
    pb::Call { request_id: request_id.into(), ..Default::default() }
}

/// A call that answers when it has been accepted.
pub fn detached(request_id: &str) -> pb::Call {
    pb::Call { detach: true, ..named(request_id) }
}

/// A call that waits so long.
pub fn patient(timeout: Option<prost_types::Duration>) -> pb::Call {
    pb::Call { timeout, ..Default::default() }
}

/// A filter for these sockets and kinds.
pub fn filter(socket_ids: &[&str], kinds: &[&str]) -> Option<pb::EventFilter> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Some(pb::EventFilter { socket_ids: owned(socket_ids), kinds: owned(kinds) })
}

/// A stream of events.
pub struct Watcher(Streaming<pb::WatchEventsResponse>);

impl Watcher {
    /// The next frame; none at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Frame>, Status> {
        let frame = within("a frame", self.0.message()).await?;
        Ok(frame.map(|response| response.frame.expect("a frame is never empty")))
    }

    /// The next frame that is no heartbeat, which must come.
    pub async fn frame(&mut self) -> Frame {
        loop {
            match self.next().await.unwrap().expect("the stream goes on") {
                Frame::Heartbeat(_) => {}
                frame => return frame,
            }
        }
    }

    pub async fn opened(&mut self) -> pb::WatchOpened {
        match self.frame().await {
            Frame::Opened(opened) => opened,
            other => panic!("not the first frame: {other:?}"),
        }
    }

    pub async fn batch(&mut self) -> pb::EventBatch {
        match self.frame().await {
            Frame::Batch(batch) => batch,
            other => panic!("no batch: {other:?}"),
        }
    }

    /// The status that it ends with, behind whatever still comes.
    pub async fn refused(&mut self) -> Refused {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended well"),
                Err(status) => return status.into(),
            }
        }
    }

    /// All events to the end of the stream, which must be a good one.
    pub async fn rest(&mut self) -> Vec<pb::Event> {
        let mut events = Vec::new();
        while let Some(frame) = self.next().await.unwrap() {
            match frame {
                Frame::Batch(batch) => events.extend(batch.events),
                Frame::Heartbeat(_) | Frame::Opened(_) => {}
                other => panic!("neither a batch nor the end: {other:?}"),
            }
        }
        events
    }
}

impl Agent {
    /// Begins to watch; the first frame has not been read yet.
    pub async fn watch(&self, request: pb::WatchEventsRequest) -> Result<Watcher, Refused> {
        let stream = within("a stream", self.events().watch_events(request)).await?;
        Ok(Watcher(stream.into_inner()))
    }

    pub async fn list(&self, request: pb::ListEventsRequest) -> pb::ListEventsResponse {
        self.events().list_events(request).await.unwrap().into_inner()
    }

    /// All events of a session that are kept.
    pub async fn all_events(&self, session: &str) -> Vec<pb::Event> {
        let mut events = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListEventsRequest { session_id: session.into(), page_token, ..Default::default() };
            let page = self.list(request).await;
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return events;
            }
            page_token = page.next_page_token;
        }
    }

    pub async fn wait(&self, request: pb::WaitEventRequest) -> Result<pb::WaitEventResponse, Refused> {
        Ok(within("an answer", self.events().wait_event(request)).await?.into_inner())
    }

    pub async fn get_call(&self, request_id: &str) -> Result<pb::CallRecord, Refused> {
        self.get_call_in("", request_id).await
    }

    pub async fn get_call_in(&self, session: &str, request_id: &str) -> Result<pb::CallRecord, Refused> {
        let request = pb::GetCallRequest { session_id: session.into(), request_id: request_id.into() };
        Ok(self.sockets().get_call(request).await?.into_inner().call.unwrap())
    }

    pub async fn cancel_call(&self, request_id: &str) -> Result<pb::CallRecord, Refused> {
        let request = pb::CancelCallRequest { request_id: request_id.into(), ..Default::default() };
        Ok(within("an answer", self.sockets().cancel_call(request)).await?.into_inner().call.unwrap())
    }

    /// How many sockets of the default session are open.
    pub async fn open_sockets(&self) -> usize {
        let listed = self.sockets().list_sockets(pb::ListSocketsRequest::default()).await.unwrap().into_inner();
        listed.sockets.len()
    }

    pub async fn create_session(&self, id: &str) -> Result<pb::Session, Refused> {
        let request = pb::CreateSessionRequest { session_id: id.into(), ..Default::default() };
        Ok(self.sessions().create_session(request).await?.into_inner().session.unwrap())
    }

    /// Makes a UDP socket on loopback in a session.
    pub async fn udp_in(&self, session: &str, id: &str) -> pb::Socket {
        let request = pb::CreateSocketRequest {
            session_id: session.into(),
            socket_id: id.into(),
            kind: Some(pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec {
                bind: "127.0.0.1:0".into(),
                ..Default::default()
            })),
            ..Default::default()
        };
        self.sockets().create_socket(request).await.unwrap().into_inner().socket.unwrap()
    }

    pub async fn reset(&self, session: &str) -> pb::ResetSessionResponse {
        let request = pb::ResetSessionRequest { session_id: session.into(), ..Default::default() };
        within("a reset", self.sessions().reset_session(request)).await.unwrap().into_inner()
    }

    pub async fn delete(&self, session: &str, allow_missing: bool) -> Result<pb::DeleteSessionResponse, Refused> {
        let request = pb::DeleteSessionRequest { session_id: session.into(), allow_missing, ..Default::default() };
        Ok(within("a deletion", self.sessions().delete_session(request)).await?.into_inner())
    }
}

/// What an operation that is done has answered.
pub fn response<T: prost::Message + Default>(record: &pb::CallRecord) -> T {
    let any = record.response.as_ref().unwrap_or_else(|| panic!("no response: {record:?}"));
    assert!(any.type_url.ends_with(&format!(".{}Response", record.method)), "{}", any.type_url);
    T::decode(any.value.as_slice()).unwrap()
}
