//! A listener of an agent's as a listener of the client's own: what `tokio::net::TcpListener` is for this host.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::client::agent_client::AgentClient;
use crate::client::error::{ClientError, far_error, os_error};
use crate::client::stream::FarStream;
use crate::model::address::Endpoint;
use crate::model::delivery::DeliveryMode;
use crate::model::errno::Errno;
use crate::model::id::{SessionId, SocketId};
use crate::model::operation::{Action, CallOptions, Outcome, SocketAction, Target, Yield};
use crate::model::socket::AcceptPolicy;
use crate::model::spec::{Kind, SocketSpec};
use crate::model::view::SocketView;

type Accepting = Pin<Box<dyn Future<Output = io::Result<FarStream>> + Send>>;

/// A TCP socket of an agent's that listens.
///
/// Connections wait in the queue of the far kernel until they are accepted, and their bytes in its buffers. The socket goes on listening when
/// this is dropped, until [`Self::close`], or as long as its session has it.
pub struct FarListener {
    agent: AgentClient,
    socket: Box<SocketView>,
    /// What was begun stays, whoever stops waiting for it: a connection that was accepted is not lost.
    accepting: Option<Accepting>,
}

impl AgentClient {
    /// Makes a TCP socket that listens where `spec` says. The agent names it where `id` is absent. What the far kernel objects to is an error
    /// with its number (EADDRINUSE).
    pub async fn listen(
        &self,
        session: &SessionId,
        id: Option<&SocketId>,
        mut spec: SocketSpec,
    ) -> io::Result<FarListener> {
        if let Kind::Tcp(tcp) = &mut spec.kind {
            tcp.accept = AcceptPolicy::Manual;
        }
        spec.conduct.delivery.mode = DeliveryMode::Pull;
        let create = Action::CreateSocket { session: session.clone(), socket: id.cloned(), spec: Box::new(spec) };
        let socket = socket_of(self.call(&create, &CallOptions::default()).await?)?;
        let socket = socket.ok_or_else(|| ClientError::protocol("a listener was made without a socket"))?;
        Ok(FarListener { agent: self.clone(), socket, accepting: None })
    }
}

impl FarListener {
    /// The socket as it was when it was made.
    pub fn socket(&self) -> &SocketView {
        &self.socket
    }

    /// Where it listens.
    pub fn local(&self) -> Option<&Endpoint> {
        self.socket.status.local.as_ref()
    }

    /// The next connection. Nothing is lost when this is cancelled.
    pub async fn accept(&mut self) -> io::Result<FarStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The same, for whoever polls.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<FarStream>> {
        let (agent, target) = (&self.agent, &self.socket);
        let accepting = self.accepting.get_or_insert_with(|| Box::pin(accept(agent.clone(), target_of(target))));
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.accepting = None;
        Poll::Ready(accepted)
    }

    /// Closes the socket. Connections that were accepted go on.
    pub async fn close(self) -> io::Result<()> {
        let close = SocketAction::Close { linger: None, allow_missing: true };
        let close = Action::Socket(target_of(&self.socket), close);
        socket_of(self.agent.call(&close, &CallOptions::default()).await?).map(drop)
    }
}

impl fmt::Debug for FarListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FarListener")
            .field("socket", &self.socket.id)
            .field("local", &self.local())
            .finish_non_exhaustive()
    }
}

/// Takes a connection out of the queue and attaches a stream to it.
async fn accept(agent: AgentClient, listener: Target) -> io::Result<FarStream> {
    loop {
        let accept = Action::Socket(listener.clone(), SocketAction::Accept);
        let outcome = agent.call(&accept, &CallOptions::default()).await?;
        if outcome.report.timed_out {
            continue;
        }
        let child = socket_of(outcome)?;
        let child = child.ok_or_else(|| ClientError::protocol("a connection was accepted without a socket"))?;
        return match agent.attach(&target_of(&child)).await {
            // The peer was faster: accept(2) says so, too.
            Err(error) if is_closed(&error) => Err(os_error(Errno::ECONNABORTED)),
            attached => attached,
        };
    }
}

fn is_closed(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ClientError>());
    matches!(inner, Some(ClientError::Refused { reason, .. }) if reason == "SOCKET_CLOSED")
}

/// The socket that an operation brought, or what the far kernel had against it.
fn socket_of(outcome: Outcome) -> io::Result<Option<Box<SocketView>>> {
    match (&outcome.report.error, outcome.yielded) {
        (Some(error), _) => Err(far_error(error)),
        (None, Yield::Socket(socket, _)) => Ok(Some(socket)),
        (None, _) => Ok(None),
    }
}

fn target_of(socket: &SocketView) -> Target {
    Target { session: socket.session.clone(), socket: socket.id.clone(), uid: Some(socket.uid) }
}
