//! How received bytes are handed on, as protobuf has it.

use crate::model::delivery::{Delivery, DeliveryChange, DeliveryMode, ReadPause};
use crate::model::refusal::Violation;
use crate::wire::socket::Bounds;
use crate::wire::unknown::known_value;
use crate::wire::{call, known, pb, socket};

// === In ===

pub(super) fn change(delivery: Option<&pb::Delivery>, bounds: Bounds<'_>) -> Result<DeliveryChange, Violation> {
    let Some(delivery) = delivery else { return Ok(DeliveryChange::default()) };
    let limit = bounds.limits.read_size;
    if delivery.credit.is_some() && delivery.paused() {
        return Err(Violation::new("delivery.credit", "a paused socket reads nothing: leave one of them out"));
    }
    Ok(DeliveryChange {
        mode: match known("delivery.mode", delivery.mode)? {
            pb::DeliveryMode::Unspecified => None,
            pb::DeliveryMode::Events => Some(DeliveryMode::Events),
            pb::DeliveryMode::Pull => Some(DeliveryMode::Pull),
            pb::DeliveryMode::Transfer => Some(DeliveryMode::Transfer),
            pb::DeliveryMode::Count => Some(DeliveryMode::Count),
        },
        paused: delivery.paused,
        read_size: delivery.read_size.map(|size| socket::in_range("delivery.read_size", size, limit)).transpose()?,
        hash: delivery.hash,
        credit: delivery.credit.map(|credit| socket::in_range("delivery.credit", credit, u32::MAX)).transpose()?,
        read_interval: call::optional_duration("delivery.read_interval", delivery.read_interval.as_ref())?,
    })
}

// === Out ===

pub(super) fn write(change: DeliveryChange) -> pb::Delivery {
    pb::Delivery {
        mode: change.mode.map_or(pb::DeliveryMode::Unspecified, mode).into(),
        paused: change.paused,
        read_size: change.read_size,
        hash: change.hash,
        credit: change.credit,
        read_interval: change.read_interval.map(call::span),
    }
}

/// Everything of it; a hash only where there may be one.
pub(super) fn shown(delivery: Delivery, hashable: bool) -> pb::Delivery {
    pb::Delivery {
        mode: mode(delivery.mode).into(),
        paused: Some(delivery.paused),
        read_size: Some(delivery.read_size),
        hash: hashable.then_some(delivery.hash),
        credit: delivery.credit,
        read_interval: (!delivery.read_interval.is_zero()).then(|| call::span(delivery.read_interval)),
    }
}

fn mode(mode: DeliveryMode) -> pb::DeliveryMode {
    match mode {
        DeliveryMode::Events => pb::DeliveryMode::Events,
        DeliveryMode::Pull => pb::DeliveryMode::Pull,
        DeliveryMode::Transfer => pb::DeliveryMode::Transfer,
        DeliveryMode::Count => pb::DeliveryMode::Count,
    }
}

pub(super) fn pause(reason: ReadPause) -> pb::ReadPauseReason {
    match reason {
        ReadPause::Asked => pb::ReadPauseReason::Asked,
        ReadPause::Credit => pb::ReadPauseReason::Credit,
        ReadPause::LogFull => pb::ReadPauseReason::LogFull,
    }
}

// === In again: what an agent sent ===

pub(super) fn read(sent: &pb::Delivery) -> Option<Delivery> {
    Some(Delivery {
        mode: match known_value(sent.mode)? {
            pb::DeliveryMode::Pull => DeliveryMode::Pull,
            pb::DeliveryMode::Transfer => DeliveryMode::Transfer,
            pb::DeliveryMode::Count => DeliveryMode::Count,
            pb::DeliveryMode::Events | pb::DeliveryMode::Unspecified => DeliveryMode::Events,
        },
        paused: sent.paused(),
        read_size: sent.read_size(),
        hash: sent.hash(),
        credit: sent.credit,
        read_interval: call::read_span(sent.read_interval.as_ref()),
    })
}

pub(super) fn read_pause(reason: pb::ReadPauseReason) -> ReadPause {
    match reason {
        pb::ReadPauseReason::Credit => ReadPause::Credit,
        pb::ReadPauseReason::LogFull => ReadPause::LogFull,
        pb::ReadPauseReason::Asked | pb::ReadPauseReason::Unspecified => ReadPause::Asked,
    }
}
