//! `SessionService`.

use tonic::{Request, Response, Status};

use crate::service::{carry_out, next_page, page_size, page_token, principal, refused};
use crate::socket::Sockets;
use crate::wire::pb::session_service_server::SessionService;
use crate::wire::{address, pb, status};

/// The sessions of an agent, as RPCs.
#[derive(Clone)]
pub struct SessionRpcs(pub Sockets);

#[tonic::async_trait]
impl SessionService for SessionRpcs {
    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn renew_session(
        &self,
        request: Request<pb::RenewSessionRequest>,
    ) -> Result<Response<pb::RenewSessionResponse>, Status> {
        let asked = self.0.now();
        let principal = principal(&request)?;
        let id = address::session_id(&request.get_ref().session_id).map_err(status::invalid)?;
        let view = self.0.renew(&principal, &id, asked).map_err(refused)?;
        Ok(Response::new(pb::RenewSessionResponse { session: Some((&view).into()) }))
    }

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Result<Response<pb::GetSessionResponse>, Status> {
        let principal = principal(&request)?;
        let id = address::session_id(&request.get_ref().session_id).map_err(status::invalid)?;
        let view = self.0.session_view(&principal, &id).map_err(refused)?;
        Ok(Response::new(pb::GetSessionResponse { session: Some((&view).into()) }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let principal = principal(&request)?;
        let request = request.into_inner();
        let after = page_token(&request.page_token)?.unwrap_or(0);
        let size = page_size(&self.0, request.page_size);
        let views = self.0.session_views(&principal, after, size);
        let next_page_token = next_page(&views, size, |(number, _)| number.to_string());
        let sessions = views.iter().map(|(_, view)| view.into()).collect();
        Ok(Response::new(pb::ListSessionsResponse { sessions, next_page_token }))
    }

    async fn reset_session(
        &self,
        request: Request<pb::ResetSessionRequest>,
    ) -> Result<Response<pb::ResetSessionResponse>, Status> {
        carry_out(&self.0, request).await
    }

    async fn delete_session(
        &self,
        request: Request<pb::DeleteSessionRequest>,
    ) -> Result<Response<pb::DeleteSessionResponse>, Status> {
        carry_out(&self.0, request).await
    }
}
