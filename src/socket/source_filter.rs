//! Source filters of groups: set as a whole, and read back.

use std::net::IpAddr;

use crate::model::address::Transport;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::group::{GroupAsked, GroupChange, InterfaceId, InterfaceText, Membership};
use crate::model::id::{Principal, SessionId, SocketId};
use crate::model::operation::{Operation, Yield};
use crate::model::policy::permit::Permitted;
use crate::model::refusal::Refusal;
use crate::model::source_filter::{FilterAsked, FilterResult, GroupFilter, SourceFilter};
use crate::socket::cell::Cell;
use crate::socket::command::{Brought, Ending, Order, Ticket};
use crate::socket::driver::Driver;
use crate::socket::group::{group_order, has_room};
use crate::socket::perform::{NO_MULTICAST, Performed, Run};
use crate::socket::session::closed;
use crate::socket::sockets::Sockets;

/// A filter whose interfaces are known.
#[derive(Debug)]
pub(super) struct FilterOrder {
    group: IpAddr,
    places: Vec<InterfaceId>,
    filter: SourceFilter,
}

/// The interfaces that a filter is about: without one, all on which the group has been joined.
fn places(cell: &Cell, group: IpAddr, interface: &InterfaceText) -> Result<Vec<InterfaceId>, Refusal> {
    let interface = match interface {
        InterfaceText::Absent => InterfaceText::All,
        named => named.clone(),
    };
    let asked = GroupAsked { group, interface, source: None };
    let groups = cell.status().groups.clone();
    Ok(group_order(GroupChange::Unblock, &asked, cell.family(), &groups, "")?.places)
}

impl Run<'_> {
    pub(super) async fn set_source_filter(&mut self, cell: &Cell, asked: FilterAsked) -> Result<Performed, Refusal> {
        let places = places(cell, asked.group, &asked.interface)?;
        let order = FilterOrder { group: asked.group, places, filter: asked.filter };
        let mut done = self.order(cell, Order::Filter(order)).await?;
        let results = match std::mem::take(&mut done.brought) {
            Brought::Filters(results) => results,
            _ => Vec::new(),
        };
        Ok(Performed::of(Yield::Filters(Box::new(cell.view_with_kernel()), results), done))
    }
}

impl Sockets {
    /// The filters that a socket has for a group, as the kernel has them.
    pub fn source_filters(
        &self,
        principal: &Principal,
        session: &SessionId,
        socket: &SocketId,
        (group, interface): (IpAddr, &InterfaceText),
    ) -> Result<Vec<FilterResult>, Refusal> {
        let cell = self.usable_session(principal, session)?.find(socket)?;
        if cell.transport != Transport::Udp {
            return Err(Refusal::WrongTransport { socket: cell.id.clone(), instead: NO_MULTICAST });
        }
        let places = places(&cell, group, interface)?;
        cell.source_filters(group, places).ok_or_else(|| closed(&cell))
    }
}

impl Driver {
    pub(super) fn set_source_filter(&self, mut ticket: Ticket, FilterOrder { group, places, filter }: FilterOrder) {
        // A filter may let in whom the one before it did not.
        let permitted = match self.permit_group(GroupChange::Join, group) {
            Ok(permitted) => permitted,
            Err(refusal) => return ticket.refuse(refusal),
        };
        let mut groups = self.cell.status().groups.clone();
        for interface in &places {
            groups.filter(&GroupFilter { group, interface: interface.clone(), filter: filter.clone() });
        }
        if let Err(refusal) = has_room(groups.len(), self.sockets.limits().groups) {
            return ticket.refuse(refusal);
        }
        let mut results = Vec::with_capacity(places.len());
        for interface in places {
            let new = GroupFilter { group, interface, filter: filter.clone() };
            results.push(self.set_filter(&mut ticket, permitted, new));
        }
        let error = results.iter().find_map(|result| result.error.clone());
        ticket.finish(error.map_or(Ending::Done, Ending::Error), Brought::Filters(results));
    }

    fn set_filter(&self, ticket: &mut Ticket, group: Permitted<IpAddr>, new: GroupFilter) -> FilterResult {
        let error = self
            .socket
            .set_source_filter(new.interface.index, group, &new.filter)
            .err()
            .map(|errno| SocketError::new(errno, Operation::Filter, "setsockopt").about(&new.to_string()));
        let GroupFilter { group, interface, filter } = new.clone();
        let event = match &error {
            Some(error) => Event::Failed { error: error.clone() },
            None if filter.shuts_all_out() => {
                Event::GroupLeft(Box::new(Membership { group, interface: interface.clone(), source: None }))
            }
            None => Event::SourceFilterSet(Box::new(new)),
        };
        self.record_for(ticket, event);
        FilterResult { group, interface, filter: Some(filter), error }
    }
}
