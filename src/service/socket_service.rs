//! `SocketService`.

use tonic::{Request, Response, Status, Streaming};

use crate::model::id::SocketUid;
use crate::model::policy::Rpc;
use crate::service::access::{Access, end};
use crate::service::transfer::{self, TransferStream};
use crate::service::{carry_out, next_page, page_size, page_token, refused};
use crate::wire::glance::Glance;
use crate::wire::pb::socket_service_server::SocketService;
use crate::wire::{address, call, option, pb, socket, source_filter, status};

/// The sockets of an agent, as RPCs.
#[derive(Clone)]
pub struct SocketRpcs(pub Access);

impl SocketRpcs {
    /// A socket as it is now: what GetSocket answers.
    pub(super) fn look(&self, request: Request<pb::GetSocketRequest>) -> Result<Response<Box<Glance>>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let session = address::session_id(&request.session_id).map_err(status::invalid)?;
        let socket = address::socket_id(&request.socket_id).map_err(status::invalid)?;
        let sockets = &self.0.sockets;
        let view = sockets.socket_view(&caller.owner, &session, &socket).map_err(refused)?;
        let tcp_info = match request.tcp_info {
            true => sockets.tcp_info(&caller.owner, &session, &socket).map_err(refused)?,
            false => None,
        };
        let memory = match request.memory {
            true => sockets.socket_memory(&caller.owner, &session, &socket).map_err(refused)?,
            false => None,
        };
        Ok(Response::new(Box::new(Glance { view, tcp_info, memory })))
    }
}

#[tonic::async_trait]
impl SocketService for SocketRpcs {
    type TransferSocketStream = TransferStream;

    async fn create_socket(
        &self,
        request: Request<pb::CreateSocketRequest>,
    ) -> Result<Response<pb::CreateSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn create_sockets(
        &self,
        request: Request<pb::CreateSocketsRequest>,
    ) -> Result<Response<pb::CreateSocketsResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn bind_socket(
        &self,
        request: Request<pb::BindSocketRequest>,
    ) -> Result<Response<pb::BindSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn listen_socket(
        &self,
        request: Request<pb::ListenSocketRequest>,
    ) -> Result<Response<pb::ListenSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn accept_socket(
        &self,
        request: Request<pb::AcceptSocketRequest>,
    ) -> Result<Response<pb::AcceptSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn connect_socket(
        &self,
        request: Request<pb::ConnectSocketRequest>,
    ) -> Result<Response<pb::ConnectSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn disconnect_socket(
        &self,
        request: Request<pb::DisconnectSocketRequest>,
    ) -> Result<Response<pb::DisconnectSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn write_socket(
        &self,
        request: Request<pb::WriteSocketRequest>,
    ) -> Result<Response<pb::WriteSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn send_datagrams(
        &self,
        request: Request<pb::SendDatagramsRequest>,
    ) -> Result<Response<pb::SendDatagramsResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn receive_socket(
        &self,
        request: Request<pb::ReceiveSocketRequest>,
    ) -> Result<Response<pb::ReceiveSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn transfer_socket(
        &self,
        request: Request<Streaming<pb::TransferSocketRequest>>,
    ) -> Result<Response<TransferStream>, Status> {
        transfer::transfer(&self.0, request)
    }

    async fn flush_socket(
        &self,
        request: Request<pb::FlushSocketRequest>,
    ) -> Result<Response<pb::FlushSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn shutdown_socket(
        &self,
        request: Request<pb::ShutdownSocketRequest>,
    ) -> Result<Response<pb::ShutdownSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn close_socket(
        &self,
        request: Request<pb::CloseSocketRequest>,
    ) -> Result<Response<pb::CloseSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn abort_socket(
        &self,
        request: Request<pb::AbortSocketRequest>,
    ) -> Result<Response<pb::AbortSocketResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn set_socket_delivery(
        &self,
        request: Request<pb::SetSocketDeliveryRequest>,
    ) -> Result<Response<pb::SetSocketDeliveryResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn set_socket_options(
        &self,
        request: Request<pb::SetSocketOptionsRequest>,
    ) -> Result<Response<pb::SetSocketOptionsResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn join_group(
        &self,
        request: Request<pb::JoinGroupRequest>,
    ) -> Result<Response<pb::JoinGroupResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn leave_group(
        &self,
        request: Request<pb::LeaveGroupRequest>,
    ) -> Result<Response<pb::LeaveGroupResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn block_source(
        &self,
        request: Request<pb::BlockSourceRequest>,
    ) -> Result<Response<pb::BlockSourceResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn unblock_source(
        &self,
        request: Request<pb::UnblockSourceRequest>,
    ) -> Result<Response<pb::UnblockSourceResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn set_source_filter(
        &self,
        request: Request<pb::SetSourceFilterRequest>,
    ) -> Result<Response<pb::SetSourceFilterResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn get_source_filter(
        &self,
        request: Request<pb::GetSourceFilterRequest>,
    ) -> Result<Response<pb::GetSourceFilterResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let session = address::session_id(&request.session_id).map_err(status::invalid)?;
        let socket = address::socket_id(&request.socket_id).map_err(status::invalid)?;
        let (group, interface) = source_filter::place(&request).map_err(status::invalid)?;
        let filters = self.0.sockets.source_filters(&caller.owner, &session, &socket, (group, &interface));
        let filters = filters.map_err(refused)?.iter().map(pb::SourceFilterResult::from).collect();
        Ok(Response::new(pb::GetSourceFilterResponse { filters }))
    }

    async fn get_socket_options(
        &self,
        request: Request<pb::GetSocketOptionsRequest>,
    ) -> Result<Response<pb::GetSocketOptionsResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let session = address::session_id(&request.session_id).map_err(status::invalid)?;
        let socket = address::socket_id(&request.socket_id).map_err(status::invalid)?;
        let limit = self.0.sockets.limits().options_per_call;
        let specs = option::option_names(&request.names, limit).map_err(status::invalid)?;
        let options = self.0.sockets.socket_options(&caller.owner, &session, &socket, &specs).map_err(refused)?;
        let options = options.iter().map(pb::OptionResult::from).collect();
        Ok(Response::new(pb::GetSocketOptionsResponse { options }))
    }

    async fn get_socket(
        &self,
        request: Request<pb::GetSocketRequest>,
    ) -> Result<Response<pb::GetSocketResponse>, Status> {
        Ok(self.look(request)?.map(|glance| (&*glance).into()))
    }

    async fn list_sockets(
        &self,
        request: Request<pb::ListSocketsRequest>,
    ) -> Result<Response<pb::ListSocketsResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let session = address::session_id(&request.session_id).map_err(status::invalid)?;
        let after = SocketUid(page_token(&request.page_token)?.unwrap_or(0));
        let size = page_size(&self.0.sockets, request.page_size);
        let labels = socket::labels(&request.labels).map_err(status::invalid)?;
        let views = self
            .0
            .sockets
            .socket_views(&caller.owner, &session, after, (request.show_closed, &labels), size)
            .map_err(refused)?;
        let next_page_token = next_page(&views, size, |view| view.uid.to_string());
        let sockets = views.iter().map(pb::Socket::from).collect();
        Ok(Response::new(pb::ListSocketsResponse { sockets, next_page_token }))
    }

    async fn get_call(&self, request: Request<pb::GetCallRequest>) -> Result<Response<pb::GetCallResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let session = address::session_id(&request.session_id).map_err(status::invalid)?;
        let id = call::known_request_id(&request.request_id).map_err(status::invalid)?;
        let view = self.0.sockets.call_view(&caller.owner, &session, &id).map_err(refused)?;
        Ok(Response::new(pb::GetCallResponse { call: Some((&view).into()) }))
    }

    async fn cancel_call(
        &self,
        request: Request<pb::CancelCallRequest>,
    ) -> Result<Response<pb::CancelCallResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let session = address::session_id(&request.session_id).map_err(status::invalid)?;
        let id = call::known_request_id(&request.request_id).map_err(status::invalid)?;
        let named = [("request_id", id.as_str())];
        let entry = self.0.begin(&caller, Rpc::CancelCall, &session, &named).map_err(refused)?;
        let canceled = self.0.sockets.cancel_call(&caller.owner, &session, &id).await;
        end(entry, &canceled);
        let view = canceled.map_err(refused)?;
        Ok(Response::new(pb::CancelCallResponse { call: Some((&view).into()) }))
    }
}
