//! What has come of probes, as protobuf has it.

use crate::model::probe::{ProbeReport, ProbeSource, RoundTrips};
use crate::wire::{address, call, pb};

// === Out ===

pub(super) fn write(report: &ProbeReport) -> pb::ProbeReport {
    let sources = report.sources.iter().map(pb::ProbeSource::from).collect();
    pb::ProbeReport { sources, other_datagrams: Some(report.others) }
}

impl From<&ProbeSource> for pb::ProbeSource {
    fn from(seen: &ProbeSource) -> Self {
        Self {
            source: address::endpoint(seen.source.as_ref()),
            lowest_number: seen.lowest,
            highest_number: seen.highest,
            received: Some(seen.received),
            lost: Some(seen.lost()),
            duplicates: Some(seen.duplicates),
            reordered: Some(seen.reordered),
            jitter: Some(call::span(seen.jitter)),
            least_round_trip: seen.round_trips.map(|trips| call::span(trips.least)),
            mean_round_trip: seen.round_trips.map(|trips| call::span(trips.mean)),
            greatest_round_trip: seen.round_trips.map(|trips| call::span(trips.greatest)),
        }
    }
}

// === In, for clients ===

pub(super) fn read(sent: &pb::ProbeReport) -> ProbeReport {
    ProbeReport { sources: sent.sources.iter().map(read_source).collect(), others: sent.other_datagrams() }
}

fn read_source(sent: &pb::ProbeSource) -> ProbeSource {
    let span = |sent: &Option<prost_types::Duration>| call::read_span(sent.as_ref());
    ProbeSource {
        source: sent.source.as_ref().and_then(address::read_endpoint),
        lowest: sent.lowest_number,
        highest: sent.highest_number,
        received: sent.received(),
        duplicates: sent.duplicates(),
        reordered: sent.reordered(),
        jitter: span(&sent.jitter),
        round_trips: sent.mean_round_trip.is_some().then(|| RoundTrips {
            least: span(&sent.least_round_trip),
            mean: span(&sent.mean_round_trip),
            greatest: span(&sent.greatest_round_trip),
        }),
    }
}
