//! The table of options for people: made from the code, and so never out of date.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use farsock::model::option::{Access, OptionSpec, OptionType};
use farsock::model::option_table::OPTIONS;

/// `FARSOCK_BLESS=1 cargo test the_table` writes the page anew.
#[test]
fn the_table_of_options_is_that_of_the_code() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/OPTIONS.md");
    let wanted = table();
    if std::env::var_os("FARSOCK_BLESS").is_some() {
        fs::write(&page, &wanted).unwrap();
    }
    assert_eq!(fs::read_to_string(&page).unwrap_or_default(), wanted, "FARSOCK_BLESS=1 writes it anew");
}

fn table() -> String {
    let mut text = String::from(
        "# Socket options\n\nBy the names of their Linux constants: socket(7), tcp(7), ip(7), ipv6(7). A value of another type, or out of range, is refused before any \
system call; what the kernel says is in force is told beside what was asked for. This page is made from `src/model/option_table.rs`.\n\n\
SO_ERROR is not among them: whoever reads it takes the error away from the agent, which tells it by events. SO_MEMINFO is `memory` of GetSocket, TCP_INFO is \
`tcp_info`.\n\n\
| option | value | of | |\n|---|---|---|---|\n",
    );
    for spec in OPTIONS {
        let access = match spec.access {
            Access::ReadWrite => "",
            Access::ReadOnly => ", only read",
            Access::WriteOnly => ", only set",
        };
        writeln!(text, "| `{}` | {}{access} | {} | {} |", spec.name, value(spec), of(spec), spec.summary).unwrap();
    }
    text
}

fn value(spec: &OptionSpec) -> String {
    let (minimum, maximum) = spec.range;
    let range = if maximum == i32::MAX { format!("from {minimum}") } else { format!("{minimum} to {maximum}") };
    match spec.kind {
        OptionType::Enabled => "`enabled`".to_owned(),
        OptionType::Number if spec.access == Access::ReadOnly => "`number`".to_owned(),
        OptionType::Number => format!("`number`, {range}"),
        OptionType::Seconds | OptionType::Milliseconds | OptionType::Microseconds => {
            format!("`duration` in units of {:?}, {range}", spec.kind.unit().unwrap())
        }
        OptionType::Linger => format!("`enabled: false`, or `duration` in units of 1s, {range}"),
        OptionType::InterfaceName | OptionType::InterfaceIndex | OptionType::MulticastInterface => {
            "`text`, an interface's name".to_owned()
        }
        OptionType::Text => "`text`".to_owned(),
        OptionType::Cookie => "`text`, hexadecimal digits".to_owned(),
        OptionType::PathMtu => format!("`text`: {}", spec.kind.words().join(", ")),
        OptionType::Timestamping => format!("`text`, with commas: {}", spec.kind.words().join(", ")),
        OptionType::CongestionInfo => "`text`".to_owned(),
        OptionType::PortRange => "`text`: two ports, such as `40000-40999`".to_owned(),
    }
}

fn of(spec: &OptionSpec) -> String {
    let transport = spec.transport.map_or_else(|| "TCP, UDP".to_owned(), |transport| transport.to_string());
    let family = spec.family.map_or(String::new(), |family| format!(" over {family}"));
    format!("{transport}{family}")
}
