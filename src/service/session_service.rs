//! `SessionService`.

use std::str::FromStr;

use tonic::{Request, Response, Status};

use crate::model::id::Principal;
use crate::model::policy::Rpc;
use crate::service::access::{Access, Whose, end};
use crate::service::{carry_out, carry_out_for, next_page, page_size, page_token, refused};
use crate::wire::pb::session_service_server::SessionService;
use crate::wire::{address, pb, status};

/// The sessions of an agent, as RPCs.
#[derive(Clone)]
pub struct SessionRpcs(pub Access);

/// The last session of a page of everybody's: whose it is, and its number among those.
struct Place((Principal, u64));

impl FromStr for Place {
    type Err = ();

    fn from_str(token: &str) -> Result<Self, ()> {
        let (owner, number) = token.split_once('/').ok_or(())?;
        Ok(Self((Principal::parse(owner).map_err(drop)?, number.parse().map_err(drop)?)))
    }
}

#[tonic::async_trait]
impl SessionService for SessionRpcs {
    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        if request.interface_events {
            // Before there is a session, so that it misses nothing.
            self.0.interfaces.begin(&self.0.sockets).await.map_err(refused)?;
        }
        carry_out_for(&self.0, &caller, request).await
    }

    async fn renew_session(
        &self,
        request: Request<pb::RenewSessionRequest>,
    ) -> Result<Response<pb::RenewSessionResponse>, Status> {
        let asked = self.0.sockets.now();
        let (caller, request) = self.0.admit(request)?;
        let id = address::session_id(&request.session_id).map_err(status::invalid)?;
        let entry = self.0.begin(&caller, Rpc::RenewSession, &id, &[]).map_err(refused)?;
        let renewed = self.0.sockets.renew(&caller.owner, &id, asked);
        end(entry, &renewed);
        let view = renewed.map_err(refused)?;
        Ok(Response::new(pb::RenewSessionResponse { session: Some((&view).into()) }))
    }

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Result<Response<pb::GetSessionResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let id = address::session_id(&request.session_id).map_err(status::invalid)?;
        let view = self.0.sockets.session_view(&caller.owner, &id).map_err(refused)?;
        Ok(Response::new(pb::GetSessionResponse { session: Some((&view).into()) }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let (caller, request) = self.0.admit(request)?;
        let size = page_size(&self.0.sockets, request.page_size);
        let (views, next_page_token) = match self.0.whose(&caller.who, &request.owner).map_err(refused)? {
            Whose::One(owner) => {
                let after = page_token(&request.page_token)?.unwrap_or(0);
                let views = self.0.sockets.session_views(&owner, after, size);
                let next = next_page(&views, size, |(number, _)| number.to_string());
                (views, next)
            }
            Whose::All => {
                let after: Option<Place> = page_token(&request.page_token)?;
                let views = self.0.sockets.all_session_views(after.map(|Place(place)| place).as_ref(), size);
                let next = next_page(&views, size, |(number, view)| format!("{}/{number}", view.owner));
                (views, next)
            }
        };
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
