//! Every request that an agent takes, as one type, so that a test can go through them.

use farsock::wire::pb;
use prost::Message;
use tonic::Status;

use super::{Agent, datagram, text};

macro_rules! requests {
    ($($message:ident => $service:ident.$method:ident,)*) => {
        /// A request of any kind.
        #[allow(clippy::enum_variant_names, reason = "they are named as their messages are")]
        #[allow(clippy::large_enum_variant, reason = "a test sends one at a time")]
        #[derive(Debug, Clone)]
        pub enum AnyRequest {
            $($message(pb::$message)),*
        }

        $(impl From<pb::$message> for AnyRequest {
            fn from(request: pb::$message) -> Self {
                Self::$message(request)
            }
        })*

        impl AnyRequest {
            /// The request that a message of this name is on the wire; absent where there is no such request.
            pub fn decode(message: &str, bytes: &[u8]) -> Option<Self> {
                match message {
                    $(stringify!($message) => Some(Self::$message(pb::$message::decode(bytes).unwrap())),)*
                    _ => None,
                }
            }

            /// Sends it, and only tells whether it was refused.
            pub async fn send(self, agent: &Agent) -> Result<(), Status> {
                match self {
                    $(Self::$message(request) => agent.$service().$method(request).await.map(drop)),*
                }
            }
        }
    };
}

requests! {
    GetAgentRequest => agent.get_agent,
    GetClockRequest => agent.get_clock,
    ListInterfacesRequest => agent.list_interfaces,
    GetRouteRequest => agent.get_route,
    ParseAddressRequest => agent.parse_address,
    ResolveRequest => agent.resolve,
    CheckPortRequest => agent.check_port,
    GetKernelCountersRequest => agent.get_kernel_counters,
    CreateSessionRequest => sessions.create_session,
    RenewSessionRequest => sessions.renew_session,
    GetSessionRequest => sessions.get_session,
    ListSessionsRequest => sessions.list_sessions,
    ResetSessionRequest => sessions.reset_session,
    DeleteSessionRequest => sessions.delete_session,
    CreateSocketRequest => sockets.create_socket,
    CreateSocketsRequest => sockets.create_sockets,
    BindSocketRequest => sockets.bind_socket,
    ListenSocketRequest => sockets.listen_socket,
    AcceptSocketRequest => sockets.accept_socket,
    ConnectSocketRequest => sockets.connect_socket,
    DisconnectSocketRequest => sockets.disconnect_socket,
    WriteSocketRequest => sockets.write_socket,
    SendDatagramsRequest => sockets.send_datagrams,
    ReceiveSocketRequest => sockets.receive_socket,
    FlushSocketRequest => sockets.flush_socket,
    ShutdownSocketRequest => sockets.shutdown_socket,
    CloseSocketRequest => sockets.close_socket,
    AbortSocketRequest => sockets.abort_socket,
    SetSocketDeliveryRequest => sockets.set_socket_delivery,
    SetSocketOptionsRequest => sockets.set_socket_options,
    JoinGroupRequest => sockets.join_group,
    LeaveGroupRequest => sockets.leave_group,
    BlockSourceRequest => sockets.block_source,
    UnblockSourceRequest => sockets.unblock_source,
    SetSourceFilterRequest => sockets.set_source_filter,
    GetSourceFilterRequest => sockets.get_source_filter,
    GetSocketOptionsRequest => sockets.get_socket_options,
    GetSocketRequest => sockets.get_socket,
    ListSocketsRequest => sockets.list_sockets,
    GetCallRequest => sockets.get_call,
    CancelCallRequest => sockets.cancel_call,
    WatchEventsRequest => events.watch_events,
    WaitEventRequest => events.wait_event,
    ListEventsRequest => events.list_events,
    AckEventsRequest => events.ack_events,
}

/// Every request that changes something in a session, or in a socket of it, and does not end the session. Nothing is wrong with any of them
/// but that the socket may not be of that kind.
pub fn changes(session: &str, socket: &str) -> Vec<AnyRequest> {
    let (session_id, multicast) = (|| session.to_owned(), || "239.1.2.3".to_owned());
    macro_rules! of_socket {
        ($($message:ident { $($field:ident: $value:expr),* })*) => {
            vec![$(AnyRequest::from(pb::$message {
                session_id: session_id(), socket_id: socket.to_owned(), $($field: $value,)* ..Default::default()
            })),*]
        };
    }
    let udp = pb::UdpSocketSpec::default();
    let enabled =
        pb::SocketOption { name: "SO_BROADCAST".into(), value: Some(pb::socket_option::Value::Enabled(true)) };
    let mut changes = of_socket![
        BindSocketRequest { local: ":0".into() }
        ListenSocketRequest {}
        AcceptSocketRequest {}
        ConnectSocketRequest { remote: "127.0.0.1:1".into() }
        DisconnectSocketRequest {}
        WriteSocketRequest { payload: text("late") }
        SendDatagramsRequest { datagrams: vec![datagram("127.0.0.1:9", "late")] }
        ReceiveSocketRequest {}
        FlushSocketRequest {}
        ShutdownSocketRequest {}
        SetSocketDeliveryRequest { delivery: Some(pb::Delivery { paused: Some(true), ..Default::default() }) }
        SetSocketOptionsRequest { options: vec![enabled] }
        JoinGroupRequest { group: multicast() }
        LeaveGroupRequest { group: multicast() }
        BlockSourceRequest { group: multicast(), source: "127.0.0.1".into() }
        UnblockSourceRequest { group: multicast(), source: "127.0.0.1".into() }
        SetSourceFilterRequest { group: multicast(), mode: pb::FilterMode::Exclude.into() }
        CloseSocketRequest { allow_missing: true }
        AbortSocketRequest { allow_missing: true }
    ];
    let many = pb::SocketSpec { kind: Some(pb::socket_spec::Kind::Udp(udp.clone())), ..Default::default() };
    let kind = Some(pb::create_socket_request::Kind::Udp(udp));
    changes.extend([
        AnyRequest::from(pb::RenewSessionRequest { session_id: session_id() }),
        pb::CreateSocketRequest { session_id: session_id(), kind, ..Default::default() }.into(),
        pb::CreateSocketsRequest { session_id: session_id(), sockets: vec![many], ..Default::default() }.into(),
        pb::CancelCallRequest { session_id: session_id(), request_id: "in-time".into() }.into(),
        pb::ResetSessionRequest { session_id: session_id(), ..Default::default() }.into(),
    ]);
    changes
}
