//! `EventService`: a stream is a cursor over the log, with nothing in between.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use crate::eventlog::cursor::{Cursor, Next};
use crate::eventlog::hub::From as Begin;
use crate::model::event::{EventFilter, EventRecord, Gap};
use crate::model::id::{SessionId, WatcherId};
use crate::model::payload::{PayloadForm, PayloadView};
use crate::model::policy::Rpc;
use crate::model::refusal::{Refusal, Violation};
use crate::service::access::{Access, end, until};
use crate::service::{page_size, page_token, refused};
use crate::socket::{Sockets, Watch};
use crate::wire::pb::watch_events_response::Frame;
use crate::wire::scope::Scoped;
use crate::wire::watch::{Batch, WatchFrame};
use crate::wire::{address, call, event, payload, pb, status};

/// The logs of an agent's sessions, as RPCs.
#[derive(Clone)]
pub struct EventRpcs(pub Access);

/// How often a caller may ask for signs of life.
const HEARTBEATS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// How many bytes of payload a page of events has at the most, so that it fits every client's message limit also in hex.
const PAGE_PAYLOAD: usize = 1 << 20;

impl EventRpcs {
    pub(super) async fn watch_events(
        self,
        request: Request<pb::WatchEventsRequest>,
    ) -> Result<Response<impl Stream<Item = Result<WatchFrame, Status>>>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let right = request.right();
        let asked = Asked::check(&request, &self.0.sockets).map_err(refused)?;
        let sockets = &self.0.sockets;
        let (mut watch, snapshot) = if request.snapshot {
            let (watch, at_seq, views) =
                sockets.watch_with_snapshot(&caller.owner, &asked.session, asked.cursor_filter()).map_err(refused)?;
            let views = views.iter().map(pb::Socket::from).collect();
            (watch, Some(pb::WatchSnapshot { at_seq, sockets: views }))
        } else {
            let watch =
                sockets.watch(&caller.owner, &asked.session, asked.begin, asked.cursor_filter()).map_err(refused)?;
            (watch, None)
        };
        // Last, so that a watch that is refused holds nothing.
        if let Some(watcher) = &asked.watcher {
            let named = [("watcher_id", watcher.as_str())];
            let entry = self.0.begin(&caller, Rpc::WatchEvents, &asked.session, &named).map_err(refused)?;
            let held = sockets.hold(&caller.owner, &asked.session, watcher);
            end(entry, &held);
            let acknowledged = held.map_err(refused)?;
            if let (Begin::Oldest, Some(through), None) = (asked.begin, acknowledged, &snapshot) {
                let after = Begin::After(through);
                watch.cursor =
                    sockets.read(&caller.owner, &asked.session, after, asked.cursor_filter()).map_err(refused)?;
            }
        }
        let (oldest_seq, head_seq) = watch.log_bounds();
        let opened = pb::WatchOpened {
            instance_id: sockets.instance().to_string(),
            session_id: asked.session.to_string(),
            oldest_seq,
            head_seq,
        };
        let watcher = Watcher {
            first: [Some(Frame::Opened(opened)), snapshot.map(Frame::Snapshot)],
            watch,
            sockets: self.0.sockets.clone(),
            left: asked.max_events,
            next_heartbeat: Instant::now() + asked.heartbeat,
            over: false,
            asked,
        };
        let frames = unfold(watcher, |mut watcher| async move {
            let frame = watcher.next().await?;
            Some((Ok(frame), watcher))
        });
        let access = self.0;
        let revoked = async move { access.revoked(&caller, Rpc::WatchEvents, right).await };
        Ok(Response::new(until(revoked, frames)))
    }

    pub(super) async fn wait_event(
        self,
        request: Request<pb::WaitEventRequest>,
    ) -> Result<Response<pb::WaitEventResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let session = address::session_id(&request.session_id).map_err(status::invalid)?;
        let filter = event::filter("filter", request.filter.as_ref()).map_err(status::invalid)?;
        let view = payload::view(request.view.as_ref()).map_err(status::invalid)?;
        let timeout = call::optional_duration("timeout", request.timeout.as_ref()).map_err(status::invalid)?;
        let deadline = Instant::now() + timeout.unwrap_or_else(|| self.0.sockets.defaults().wait_timeout);
        let begin = match request.after_event_seq {
            Some(seq) => Begin::After(seq),
            None if request.expect_none => Begin::Now,
            None => Begin::Oldest,
        };
        let mut watch = self.0.sockets.watch(&caller.owner, &session, begin, filter).map_err(refused)?;
        watch.cursor = watch.cursor.at_most(1);
        let (found, gap) = tokio::select! {
            biased;
            first = first_event(&mut watch, deadline) => first,
            refusal = self.0.revoked(&caller, Rpc::WaitEvent, request.right()) => return Err(refused(refusal)),
        };
        if request.fail_on_error {
            match &found {
                Some(record) if request.expect_none => {
                    let (kind, event_seq) = (record.event.kind().to_owned(), record.seq);
                    return Err(refused(Refusal::UnexpectedEvent { kind, event_seq }));
                }
                None if !request.expect_none => return Err(refused(Refusal::TimedOut { what: "no such event came" })),
                _ => {}
            }
        }
        Ok(Response::new(pb::WaitEventResponse {
            timed_out: found.is_none(),
            event: found.map(|record| event::show(&record, &view)),
            through_seq: watch.cursor.through(),
            gap: gap.map(pb::EventGap::from),
        }))
    }

    pub(super) async fn ack_events(
        self,
        request: Request<pb::AckEventsRequest>,
    ) -> Result<Response<pb::AckEventsResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let session = address::session_id(&request.session_id).map_err(status::invalid)?;
        let watcher = address::watcher_id(&request.watcher_id).map_err(status::invalid)?;
        let through = request.through_event_seq.to_string();
        let named = [("watcher_id", watcher.as_str()), ("through_event_seq", through.as_str())];
        let entry = self.0.begin(&caller, Rpc::AckEvents, &session, &named).map_err(refused)?;
        let acknowledged = self.0.sockets.acknowledge(&caller.owner, &session, &watcher, request.through_event_seq);
        end(entry, &acknowledged);
        Ok(Response::new(pb::AckEventsResponse { acked_event_seq: acknowledged.map_err(refused)? }))
    }

    pub(super) async fn list_events(
        self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let session = address::session_id(&request.session_id).map_err(status::invalid)?;
        let filter = event::filter("filter", request.filter.as_ref()).map_err(status::invalid)?;
        let view = payload::view(request.view.as_ref()).map_err(status::invalid)?;
        let begin = match page_token(&request.page_token)?.or(request.after_event_seq) {
            Some(seq) => Begin::After(seq),
            None => Begin::Oldest,
        };
        let size = page_size(&self.0.sockets, request.page_size);
        let cursor = self.0.sockets.read(&caller.owner, &session, begin, filter).map_err(refused)?;
        Ok(Response::new(page(cursor, size, &view)))
    }
}

/// The first event that the watch's filter wants, until the deadline; and what was missed on the way to it.
async fn first_event(watch: &mut Watch, deadline: Instant) -> (Option<Arc<EventRecord>>, Option<Gap>) {
    let mut missed: Option<Gap> = None;
    loop {
        match timeout_at(deadline, watch.cursor.next()).await {
            Ok(Next::Batch { records, .. }) => {
                if let Some(record) = records.into_iter().next() {
                    return (Some(record), missed);
                }
            }
            Ok(Next::Gap(gap)) => missed = Some(missed.map_or(gap, |first| joined(first, gap))),
            Ok(Next::Ended) | Err(_) => return (None, missed),
        }
    }
}

/// Two gaps, told as one from the first number of the one to the last of the other.
fn joined(first: Gap, last: Gap) -> Gap {
    let payload_bytes = first.payload_bytes.zip(last.payload_bytes).map(|(a, b)| a + b);
    Gap { first: first.first, last: last.last, payload_bytes }
}

fn page(mut cursor: Cursor, size: usize, view: &PayloadView) -> pb::ListEventsResponse {
    let mut response = pb::ListEventsResponse::default();
    let mut payload_bytes = 0;
    loop {
        let left = size - response.events.len();
        if left == 0 || payload_bytes >= PAGE_PAYLOAD {
            response.next_page_token = cursor.through().to_string();
            return response;
        }
        cursor = cursor.at_most(left);
        match cursor.try_next() {
            None | Some(Next::Ended) => return response,
            Some(Next::Gap(gap)) => response.gaps.push(gap.into()),
            Some(Next::Batch { records, .. }) => {
                let payloads = records.iter().filter_map(|record| record.event.payload());
                payload_bytes += payloads.map(bytes::Bytes::len).sum::<usize>();
                response.events.extend(records.iter().map(|record| event::show(record, view)));
            }
        }
    }
}

/// What a watcher has asked for.
struct Asked {
    session: SessionId,
    begin: Begin,
    filter: EventFilter,
    until: Option<EventFilter>,
    view: PayloadView,
    packs: bool,
    max_events: Option<usize>,
    heartbeat: Duration,
    watcher: Option<WatcherId>,
}

impl Asked {
    fn check(request: &pb::WatchEventsRequest, sockets: &Sockets) -> Result<Self, Refusal> {
        let meant = call::instance("instance_id", &request.instance_id)?;
        if meant.is_some_and(|meant| meant != *sockets.instance()) {
            return Err(Refusal::InstanceChanged { now: sockets.instance().clone() });
        }
        let begin = match (request.after_event_seq, request.from_now) {
            (Some(_), true) => {
                return Err(Refusal::invalid("from_now", "`after_event_seq` says already where to begin"));
            }
            (Some(_), false) if request.snapshot => {
                return Err(Refusal::invalid("snapshot", "`after_event_seq` says already where to begin"));
            }
            (Some(seq), false) => Begin::After(seq),
            (None, true) => Begin::Now,
            (None, false) => Begin::Oldest,
        };
        let heartbeat = call::optional_duration("heartbeat_interval", request.heartbeat_interval.as_ref())?
            .unwrap_or_else(|| sockets.defaults().heartbeat_interval);
        if !HEARTBEATS.contains(&heartbeat) {
            return Err(Violation::new("heartbeat_interval", "it goes from 0.1s to 60s").into());
        }
        let view = payload::view(request.view.as_ref())?;
        let whole = matches!(view.form, PayloadForm::Data | PayloadForm::None) && view.max_bytes.is_none();
        if request.pack_datagrams && !whole {
            let problem = "runs show payloads as they are: it needs `view.form` DATA or NONE, and no `view.max_bytes`";
            return Err(Refusal::invalid("pack_datagrams", problem));
        }
        let until = request.until.as_ref().map(|until| event::filter("until", Some(until))).transpose()?;
        Ok(Self {
            session: address::session_id(&request.session_id)?,
            begin,
            filter: event::filter("filter", request.filter.as_ref())?,
            until,
            view,
            packs: request.pack_datagrams,
            max_events: (request.max_events > 0).then_some(request.max_events as usize),
            heartbeat,
            watcher: Some(&*request.watcher_id).filter(|id| !id.is_empty()).map(address::watcher_id).transpose()?,
        })
    }

    /// What the cursor must not pass over: with `until`, everything, because that may be anything.
    fn cursor_filter(&self) -> EventFilter {
        if self.until.is_some() { EventFilter::default() } else { self.filter.clone() }
    }
}

/// One stream.
struct Watcher {
    asked: Asked,
    sockets: Sockets,
    watch: Watch,
    first: [Option<Frame>; 2],
    /// How many events may still be sent.
    left: Option<usize>,
    next_heartbeat: Instant,
    over: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<WatchFrame> {
        if let Some(frame) = self.first.iter_mut().find_map(Option::take) {
            return Some(WatchFrame::Other(frame));
        }
        if self.over {
            return None;
        }
        let frame = match timeout_at(self.next_heartbeat, self.watch.cursor.next_batch()).await {
            Ok(Next::Batch { from, through, records }) => WatchFrame::Batch(self.batch(from, through, records)),
            Ok(Next::Gap(gap)) => WatchFrame::Other(Frame::Gap(gap.into())),
            Ok(Next::Ended) => return None,
            Err(_) => WatchFrame::Other(Frame::Heartbeat(pb::WatchHeartbeat {
                now: Some(call::time(self.sockets.now())),
                head_seq: self.watch.cursor.through(),
                lease_left: self.watch.lease_left().map(call::span),
            })),
        };
        self.next_heartbeat = Instant::now() + self.asked.heartbeat;
        Some(frame)
    }

    /// A batch, up to the event that ends the stream.
    fn batch(&mut self, from: u64, mut through: u64, records: Vec<Arc<EventRecord>>) -> Batch {
        let mut wanted = Vec::with_capacity(records.len());
        for record in records {
            let (seq, last) = (record.seq, self.asked.until.as_ref().is_some_and(|until| until.wants(&record)));
            if self.asked.filter.wants(&record) {
                wanted.push(record);
                self.left = self.left.map(|left| left - 1);
            }
            if last || self.left == Some(0) {
                self.over = true;
                through = seq;
                break;
            }
        }
        Batch { from, through, records: wanted, view: self.asked.view, packs: self.asked.packs }
    }
}
