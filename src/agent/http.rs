//! HTTP/2 with controllers: hyper speaks it, and each request goes through the door to the service that its path names.
//!
//! tonic has a server of its own, which puts a router, its layers and a clone of all of them around each request. What is left here is what
//! an agent needs of that; every call costs less so.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};

use crate::agent::auth::Auth;
use crate::agent::connection::{Connection, Peer};
use crate::agent::request::Whole;
use crate::agent::services::Services;
use crate::model::refusal::Refusal;
use crate::service::Answered;
use crate::socket::Refusals;
use crate::wire::status;

/// HTTP/2 receive windows: room for a stream that uploads, and for a few of them at once.
const STREAM_WINDOW: u32 = 1 << 20;
pub(super) const CONNECTION_WINDOW: u32 = 4 << 20;
/// Streams of one connection: one a lab socket that is attached, and then some.
pub(super) const STREAMS: u32 = 1024;
/// The largest HTTP/2 frame that is taken.
const FRAME: u32 = 1 << 20;
/// Headers of one request: a token and a few names.
const HEADERS: u32 = 8 << 10;
/// Resets that the peer may provoke before it is sent away (RUSTSEC-2024-0003), and those that it may send itself (CVE-2023-44487).
const PROVOKED_RESETS: usize = 1024;
const PENDING_RESETS: usize = 20;
/// How soon a controller is noticed that has gone without a word.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What serves connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Server {
    http: Builder<TokioExecutor>,
    auth: Arc<Auth>,
    services: Arc<Services>,
    request_timeout: Duration,
    /// One task for each connection.
    connections: TaskTracker,
    /// Asks connections to go.
    closing: CancellationToken,
}

impl Server {
    pub(super) fn new(auth: Auth, services: Services, request_timeout: Duration, closing: CancellationToken) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS)
            .max_frame_size(FRAME)
            .max_header_list_size(HEADERS)
            .max_local_error_reset_streams(PROVOKED_RESETS)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            // gRPC has no use for it.
            .auto_date_header(false);
        let (auth, services) = (Arc::new(auth), Arc::new(services));
        Self { http, auth, services, request_timeout, connections: TaskTracker::new(), closing }
    }

    /// Serves a connection until its peer closes it or `end` is cancelled: peers may ignore every polite request to go.
    pub(super) fn serve(&self, connection: Connection, peer: Peer, end: CancellationToken) {
        let (auth, services) = (Arc::clone(&self.auth), Arc::clone(&self.services));
        let handler = Handler { auth, services, request_timeout: self.request_timeout, peer };
        let served = self.http.serve_connection(TokioIo::new(connection), handler);
        let closing = self.closing.clone();
        self.connections.spawn(async move {
            let mut served = pin!(served);
            // What goes wrong on a connection is its peer's business, who notices.
            tokio::select! {
                biased;
                // First, or a request that has come meanwhile would still be taken.
                () = end.cancelled() => return,
                _ = served.as_mut() => return,
                () = closing.cancelled() => served.as_mut().graceful_shutdown(),
            }
            let _ = end.run_until_cancelled(served).await;
        });
    }

    /// Waits until all connections are gone.
    pub(super) async fn gone(&self) {
        self.connections.close();
        self.connections.wait().await;
    }
}

/// What answers the requests of one connection. A panic of whatever answers one becomes its answer, and hurts nobody else.
struct Handler {
    auth: Arc<Auth>,
    services: Arc<Services>,
    request_timeout: Duration,
    peer: Peer,
}

impl hyper::service::Service<Request<Incoming>> for Handler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let is_stream = Services::is_stream(request.uri().path());
        let mut request = request.map(|body| match is_stream {
            true => Body::new(body),
            false => Body::new(Whole::within(self.request_timeout, body)),
        });
        match self.auth.admit(&self.peer.caller, request.headers()) {
            Ok(principal) => {
                if let Err(quota) = self.peer.admit(&principal) {
                    self.auth.refusals.add(quota.limit);
                    return Answering::Refused(Some(Refusal::QuotaExceeded(quota)));
                }
                request.extensions_mut().insert(principal);
            }
            Err(_) if self.auth.is_open(&self.peer.caller, request.headers(), request.uri().path()) => {}
            Err(refusal) => return Answering::Refused(Some(refusal)),
        }
        let patience = patience(request.headers()).map(|patience| Box::pin(sleep_until(Instant::now() + patience)));
        let answer = self.services.call(request);
        Answering::Asked { answer, patience, refusals: Arc::clone(&self.auth.refusals) }
    }
}

/// An answer that is on its way.
enum Answering {
    Refused(Option<Refusal>),
    Asked {
        answer: Answered,
        /// How long whoever has asked waits for it.
        patience: Option<Pin<Box<Sleep>>>,
        refusals: Arc<Refusals>,
    },
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Refused(refusal) => {
                let refusal = refusal.take().unwrap_or(Refusal::Internal("an answer was awaited twice"));
                Poll::Ready(Ok(status::refused(&refusal).into_http()))
            }
            Self::Asked { answer, patience, refusals } => {
                match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
                    Ok(Poll::Ready(Ok(response))) => Poll::Ready(Ok(settled(response, refusals))),
                    Ok(Poll::Pending) => match patience.as_mut().map(|patience| patience.as_mut().poll(cx)) {
                        Some(Poll::Ready(())) => Poll::Ready(Ok(status::too_late().into_http())),
                        Some(Poll::Pending) | None => Poll::Pending,
                    },
                    // The panic's own message has gone to the log by the panic hook.
                    Err(_) => {
                        let refusal = Refusal::Internal("a request has made it panic");
                        Poll::Ready(Ok(status::refused(&refusal).into_http()))
                    }
                }
            }
        }
    }
}

fn settled(response: Response<Body>, refusals: &Refusals) -> Response<Body> {
    let response = match status::too_long(response.headers()) {
        Some(refusal) => status::refused(&refusal).into_http(),
        None => response,
    };
    if let Some(limit) = status::exhausted(response.headers()) {
        refusals.add(&limit);
    }
    response
}

/// How long whoever asks waits for an answer, if he has said so: `grpc-timeout`, up to eight digits and a unit.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;

    /// How the answer ends that comes of this, for somebody who waits no longer.
    async fn ended(answer: Answered) -> (Code, String) {
        let patience = Some(Box::pin(sleep_until(Instant::now())));
        let response = Answering::Asked { answer, patience, refusals: Arc::default() }.await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        (status.code(), status.message().to_owned())
    }

    #[tokio::test]
    async fn who_waits_no_longer_is_told_that_it_may_be_done_yet() {
        let (code, message) = ended(Box::pin(std::future::pending())).await;
        assert_eq!(code, Code::DeadlineExceeded);
        assert!(message.contains("may have been done"), "{message}");
    }

    #[tokio::test]
    async fn an_answer_that_is_there_comes_however_late_it_is_and_a_panic_becomes_one() {
        let there = status::refused(&Refusal::Draining).into_http();
        assert_eq!(ended(Box::pin(std::future::ready(Ok(there)))).await.0, Code::Unavailable);
        let panics: Answered = Box::pin(async { panic!("on purpose") });
        assert_eq!(ended(panics).await.0, Code::Internal);
    }

    #[test]
    fn a_time_to_wait_is_digits_and_a_unit() {
        let of =
            |text: &str| patience(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]));
        assert_eq!(of("1S"), Some(Duration::from_secs(1)));
        assert_eq!(of("50m"), Some(Duration::from_millis(50)));
        assert_eq!(of("7u"), Some(Duration::from_micros(7)));
        assert_eq!(of("7n"), Some(Duration::from_nanos(7)));
        assert_eq!(of("2M"), Some(Duration::from_secs(120)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for not in ["", "S", "1", "1s", "123456789S", "-1S", "+1S", "1.5S", "1 S", "1SS"] {
            assert_eq!(of(not), None, "{not:?}");
        }
        assert_eq!(patience(&HeaderMap::new()), None);
    }
}
