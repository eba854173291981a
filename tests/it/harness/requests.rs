//! Every request that an agent takes, as one type, so that a test can go through them.

use farsock::wire::pb;
use prost::Message;
use tonic::Status;

use super::Agent;

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
