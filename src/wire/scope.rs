//! What a request is about, for whoever decides whether its caller may send it.

use crate::model::policy::{Right, Rpc};
use crate::wire::pb;
use crate::wire::pb::transfer_socket_request::Frame;

/// A request that somebody must be permitted to send.
pub trait Scoped {
    /// The RPC that takes it.
    const RPC: Rpc;

    /// The right that its sender must have.
    fn right(&self) -> Right {
        Self::RPC.right()
    }

    /// The session that it names; absent where it is about none, or about a new one.
    fn session(&mut self) -> Option<&mut String> {
        None
    }
}

macro_rules! scoped {
    ($($rpc:ident $message:ident $($session:ident)?;)*) => {
        $(impl Scoped for pb::$message {
            const RPC: Rpc = Rpc::$rpc;

            $(fn session(&mut self) -> Option<&mut String> {
                Some(&mut self.$session)
            })?
        })*

        #[cfg(test)]
        const MESSAGES: &[(Rpc, &str, &[&str])] =
            &[$((Rpc::$rpc, stringify!($message), &[$(stringify!($session))?])),*];
    };
}

scoped! {
    GetAgent GetAgentRequest;
    GetClock GetClockRequest;
    ListInterfaces ListInterfacesRequest;
    GetRoute GetRouteRequest;
    ParseAddress ParseAddressRequest;
    Resolve ResolveRequest;
    CheckPort CheckPortRequest;
    GetKernelCounters GetKernelCountersRequest;
    CreateSession CreateSessionRequest;
    RenewSession RenewSessionRequest session_id;
    GetSession GetSessionRequest session_id;
    ListSessions ListSessionsRequest;
    ResetSession ResetSessionRequest session_id;
    DeleteSession DeleteSessionRequest session_id;
    CreateSocket CreateSocketRequest session_id;
    CreateSockets CreateSocketsRequest session_id;
    BindSocket BindSocketRequest session_id;
    ListenSocket ListenSocketRequest session_id;
    AcceptSocket AcceptSocketRequest session_id;
    ConnectSocket ConnectSocketRequest session_id;
    DisconnectSocket DisconnectSocketRequest session_id;
    WriteSocket WriteSocketRequest session_id;
    SendDatagrams SendDatagramsRequest session_id;
    ReceiveSocket ReceiveSocketRequest session_id;
    FlushSocket FlushSocketRequest session_id;
    ShutdownSocket ShutdownSocketRequest session_id;
    CloseSocket CloseSocketRequest session_id;
    AbortSocket AbortSocketRequest session_id;
    SetSocketDelivery SetSocketDeliveryRequest session_id;
    SetSocketOptions SetSocketOptionsRequest session_id;
    JoinGroup JoinGroupRequest session_id;
    LeaveGroup LeaveGroupRequest session_id;
    BlockSource BlockSourceRequest session_id;
    UnblockSource UnblockSourceRequest session_id;
    SetSourceFilter SetSourceFilterRequest session_id;
    GetSourceFilter GetSourceFilterRequest session_id;
    GetSocketOptions GetSocketOptionsRequest session_id;
    GetSocket GetSocketRequest session_id;
    ListSockets ListSocketsRequest session_id;
    GetCall GetCallRequest session_id;
    CancelCall CancelCallRequest session_id;
    AckEvents AckEventsRequest session_id;
    WaitEvent WaitEventRequest session_id;
    ListEvents ListEventsRequest session_id;
}

impl Scoped for pb::WatchEventsRequest {
    const RPC: Rpc = Rpc::WatchEvents;

    /// A watcher with a name holds what it does not acknowledge: that is more than to look.
    fn right(&self) -> Right {
        if self.watcher_id.is_empty() { Self::RPC.right() } else { Right::Use }
    }

    fn session(&mut self) -> Option<&mut String> {
        Some(&mut self.session_id)
    }
}

/// The first frame counts: no other one names a session.
impl Scoped for pb::TransferSocketRequest {
    const RPC: Rpc = Rpc::TransferSocket;

    fn session(&mut self) -> Option<&mut String> {
        match &mut self.frame {
            Some(Frame::Open(open)) => Some(&mut open.session_id),
            Some(Frame::Create(create)) => Some(&mut create.session_id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;
    use crate::wire::FILE_DESCRIPTOR_SET;

    #[test]
    fn every_rpc_has_a_row_and_every_session_that_it_names_is_seen() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let files: Vec<_> = files.into_iter().filter(|file| file.package() == "farsock.v1").collect();
        let messages: Vec<&DescriptorProto> = files.iter().flat_map(|file| &file.message_type).collect();
        let services = files.iter().flat_map(|file| &file.service);
        let methods = services.flat_map(|service| service.method.iter().map(|method| (service.name(), method)));
        let described: BTreeSet<(String, String)> =
            methods.clone().map(|(service, method)| (service.to_owned(), method.name().to_owned())).collect();
        let rows: BTreeSet<(String, String)> =
            Rpc::ALL.iter().map(|rpc| (rpc.service().to_owned(), rpc.name().to_owned())).collect();
        assert_eq!(rows, described);

        for (_, method) in methods {
            let message = method.input_type().trim_start_matches(".farsock.v1.");
            if ["WatchEventsRequest", "TransferSocketRequest"].contains(&message) {
                continue;
            }
            let (rpc, _, sessions) = MESSAGES.iter().find(|(_, name, _)| *name == message).unwrap();
            assert_eq!(rpc.name(), method.name());
            let described = messages.iter().find(|described| described.name() == message).unwrap();
            let names_one = described.field.iter().any(|field| field.name() == "session_id");
            assert_eq!(!sessions.is_empty(), names_one && *rpc != Rpc::CreateSession, "{message}");
        }
    }

    #[test]
    fn a_watcher_that_holds_what_it_has_not_acknowledged_does_more_than_look() {
        let mut request = pb::WatchEventsRequest::default();
        assert_eq!(request.right(), Right::Look);
        request.watcher_id = "w".into();
        assert_eq!(request.right(), Right::Use);
    }
}
