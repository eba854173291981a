//! Multicast memberships: interfaces are found, the kernel is told, and where it chose an interface by itself, it is asked which.

use std::net::IpAddr;

use crate::model::address::{Family, Zone};
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::group::{GroupAsked, GroupChange, GroupResult, InterfaceId, InterfaceText, Membership, Memberships};
use crate::model::operation::{Operation, Yield};
use crate::model::policy::permit::Permitted;
use crate::model::refusal::{Quota, Refusal};
use crate::model::source_filter::FilterMode;
use crate::socket::cell::Cell;
use crate::socket::command::{Brought, Ending, Order, Ticket};
use crate::socket::driver::Driver;
use crate::socket::perform::{Performed, Run};
use crate::sys::interface;

/// A change whose interfaces are known.
#[derive(Debug)]
pub(super) struct GroupOrder {
    change: GroupChange,
    group: IpAddr,
    source: Option<IpAddr>,
    /// Where. The default stands for the kernel's choice; with none at all there is no interface that can do it.
    pub(super) places: Vec<InterfaceId>,
}

impl Run<'_> {
    pub(super) async fn change_group(
        &mut self,
        cell: &Cell,
        change: GroupChange,
        asked: &GroupAsked,
    ) -> Result<Performed, Refusal> {
        let groups = cell.status().groups.clone();
        let order = group_order(change, asked, cell.family(), &groups, "")?;
        let mut done = self.order(cell, Order::Group(order)).await?;
        let results = match std::mem::take(&mut done.brought) {
            Brought::Groups(results) => results,
            _ => Vec::new(),
        };
        Ok(Performed::of(Yield::Groups(Box::new(cell.view_with_kernel()), results), done))
    }

    /// What a socket that is to be made will join. Checked before there is a socket.
    pub(super) fn first_groups(&self, groups: &[GroupAsked], family: Family) -> Result<Vec<GroupOrder>, Refusal> {
        let order = |(at, asked): (usize, &GroupAsked)| {
            let within = format!("udp.groups[{at}].");
            group_order(GroupChange::Join, asked, family, &Memberships::default(), &within)
        };
        let orders: Vec<GroupOrder> = groups.iter().enumerate().map(order).collect::<Result<_, _>>()?;
        has_room(orders.iter().map(|order| order.places.len()).sum(), self.sockets.limits().groups)?;
        Ok(orders)
    }
}

pub(super) fn has_room(wanted: usize, limit: u32) -> Result<(), Refusal> {
    if wanted <= limit as usize {
        return Ok(());
    }
    Err(Refusal::QuotaExceeded(Quota { limit: "limits.groups", value: limit.into() }))
}

/// Finds the interfaces of a change. `within` is what stands before the fields' names.
pub(super) fn group_order(
    change: GroupChange,
    asked: &GroupAsked,
    family: Family,
    groups: &Memberships,
    within: &str,
) -> Result<GroupOrder, Refusal> {
    if asked.family() != family {
        let problem = format!("`{}` is an {} group, and the socket is of {family}", asked.group, asked.family());
        return Err(Refusal::invalid(format!("{within}group"), problem));
    }
    let unknown = || {
        let text = &asked.interface;
        let problem = format!("there is no interface `{text}` on the agent's host: see ListInterfaces");
        Refusal::invalid(format!("{within}interface"), problem)
    };
    let all = || interface::all().map_err(|_| Refusal::Internal("the interfaces cannot be listed"));
    // An interface that is gone is still known to the memberships that were begun there.
    let known = |index: Option<u32>, name: Option<&str>| {
        let mut joined = groups.of(asked.group).map(|joined| &joined.membership.interface);
        joined.find(|known| Some(known.index) == index || Some(&*known.name) == name).cloned()
    };
    let places = match &asked.interface {
        InterfaceText::Absent => vec![InterfaceId::default()],
        InterfaceText::All if change == GroupChange::Join => {
            let able = all()?.into_iter().filter(|interface| interface.takes_groups);
            able.map(|interface| InterfaceId { index: interface.index, name: interface.name }).collect()
        }
        InterfaceText::All => joined_at(change, asked, groups),
        InterfaceText::Zone(Zone::Name(name)) => match known(None, Some(name)) {
            Some(known) => vec![known],
            None => {
                let index = interface::index_of(name).map_err(|_| unknown())?;
                vec![InterfaceId { index, name: (&**name).into() }]
            }
        },
        InterfaceText::Zone(Zone::Index(index)) => match known(Some(*index), None) {
            Some(known) => vec![known],
            None => {
                let name = interface::name_of_index(*index).map_err(|_| unknown())?;
                vec![InterfaceId { index: *index, name }]
            }
        },
        InterfaceText::Ip(ip) => {
            let found = all()?.into_iter().find(|interface| interface.addresses.contains(ip)).ok_or_else(unknown)?;
            vec![InterfaceId { index: found.index, name: found.name }]
        }
    };
    Ok(GroupOrder { change, group: asked.group, source: asked.source, places })
}

/// Everywhere that a group has been joined; where it has not been, the kernel is to say so.
fn joined_at(change: GroupChange, asked: &GroupAsked, groups: &Memberships) -> Vec<InterfaceId> {
    let single = change == GroupChange::Leave && asked.source.is_some();
    let mut places: Vec<InterfaceId> = Vec::new();
    for joined in groups.of(asked.group).map(|joined| &joined.membership) {
        if (!single || joined.source == asked.source) && !places.contains(&joined.interface) {
            places.push(joined.interface.clone());
        }
    }
    if places.is_empty() { vec![InterfaceId::default()] } else { places }
}

impl Driver {
    pub(super) fn change_group(&self, mut ticket: Ticket, order: GroupOrder) {
        let GroupOrder { change, group, source, places } = order;
        let permitted = match self.permit_group(change, group) {
            Ok(permitted) => permitted,
            Err(refusal) => return ticket.refuse(refusal),
        };
        if matches!(change, GroupChange::Join | GroupChange::Block) {
            let wanted = self.cell.status().groups.len() + places.len();
            if let Err(refusal) = has_room(wanted, self.sockets.limits().groups) {
                return ticket.refuse(refusal);
            }
        }
        let mut results = Vec::with_capacity(places.len());
        for interface in places {
            let membership = Membership { group, interface, source };
            results.push(self.change_membership(&mut ticket, (change, permitted), membership));
        }
        let error = match &*results {
            [] => {
                let error = SocketError::new(Errno::ENODEV, operation(change), "").about(&group.to_string());
                self.record_for(&mut ticket, Event::Failed { error: error.clone() });
                Some(error)
            }
            results => results.iter().find_map(|result| result.error.clone()),
        };
        ticket.finish(error.map_or(Ending::Done, Ending::Error), Brought::Groups(results));
    }

    fn change_membership(
        &self,
        ticket: &mut Ticket,
        (change, group): (GroupChange, Permitted<IpAddr>),
        mut membership: Membership,
    ) -> GroupResult {
        let source = membership.source;
        if let Err(errno) = self.socket.change_group(change, membership.interface.index, group, source) {
            let error = SocketError::new(errno, operation(change), "setsockopt").about(&membership.to_string());
            self.record_for(ticket, Event::Failed { error: error.clone() });
            return GroupResult { membership, error: Some(error) };
        }
        if membership.interface.index == 0 {
            membership.interface = self.chosen(change, &membership).unwrap_or_default();
        }
        let told = Box::new(membership.clone());
        let event = match change {
            GroupChange::Join => Event::GroupJoined(told),
            GroupChange::Leave => Event::GroupLeft(told),
            GroupChange::Block => Event::SourceBlocked(told),
            GroupChange::Unblock => Event::SourceUnblocked(told),
        };
        self.record_for(ticket, event);
        GroupResult { membership, error: None }
    }

    /// The interface that the kernel chose for a change: the one where what it has differs from what the events tell.
    fn chosen(&self, change: GroupChange, made: &Membership) -> Option<InterfaceId> {
        let groups = self.cell.status().groups.clone();
        let filter = |index| self.socket.source_filter(index, made.group).ok();
        if change == GroupChange::Join {
            let new = interface::all().ok()?.into_iter().find(|interface| {
                let place = InterfaceId { index: interface.index, name: interface.name.clone() };
                let has = filter(place.index).is_some_and(|filter| match made.source {
                    None => filter.mode == FilterMode::Exclude,
                    source => filter.mode == FilterMode::Include && filter.lists(source),
                });
                has && !groups.has(&Membership { interface: place, ..made.clone() })
            });
            return new.map(|interface| InterfaceId { index: interface.index, name: interface.name });
        }
        let changed = groups.of(made.group).find(|joined| {
            let filter = filter(joined.membership.interface.index);
            let lists = filter.as_ref().is_some_and(|filter| filter.lists(made.source));
            let blocked = made.source.is_some_and(|source| joined.blocked.contains(&source));
            match change {
                GroupChange::Leave if made.source.is_none() => filter.is_none(),
                GroupChange::Leave => joined.membership.source == made.source && !lists,
                GroupChange::Block => lists && !blocked && joined.membership.source.is_none(),
                GroupChange::Unblock | GroupChange::Join => !lists && blocked,
            }
        });
        changed.map(|joined| joined.membership.interface.clone())
    }
}

/// What errors say that a change was.
pub(super) const fn operation(change: GroupChange) -> Operation {
    match change {
        GroupChange::Join => Operation::Join,
        GroupChange::Leave => Operation::Leave,
        GroupChange::Block => Operation::Block,
        GroupChange::Unblock => Operation::Unblock,
    }
}
