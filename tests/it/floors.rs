//! The floors of the crate: lower ones never import upper ones, siblings do not know each other, pure ones touch no clock, task or socket.

use std::fs;
use std::path::{Path, PathBuf};

/// Floors from the ground up. A module may import only from floors *below* its own.
const FLOORS: &[&[&str]] = &[
    &["model"],
    &["wire", "eventlog", "session", "sys", "exercise", "pki"],
    &["socket", "host", "client"],
    &["behavior", "capture"],
    &["service", "controller"],
    &["agent", "web"],
    &["cli"],
];

/// Modules that must stay testable without a runtime, a clock or a network.
const PURE: &[&str] = &["model", "wire", "session", "exercise"];

/// What a pure module may not name.
const IMPURE: &[&str] = &[
    "tokio::",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
];

#[test]
fn lower_floors_never_import_upper_ones() {
    let broken = scan(|module, line| {
        let floor = floor_of(module)?;
        if line.contains("crate::{") || line.contains("super::super") {
            return Some("write one `use crate::module::…` per module".to_owned());
        }
        line.match_indices("crate::").find_map(|(at, found)| {
            let rest = &line[at + found.len()..];
            let target = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
            (target != module && floor_of(target)? >= floor)
                .then(|| format!("{module} (floor {floor}) imports {target}"))
        })
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn pure_modules_touch_no_clock_task_or_socket() {
    let broken = scan(|module, line| {
        PURE.contains(&module).then_some(())?;
        IMPURE.iter().find(|word| names(line, word)).map(|word| format!("{module} names {word}"))
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn unsafe_code_lives_in_sys_alone() {
    let broken = scan(|module, line| (module != "sys" && line.contains("unsafe ")).then(|| "unsafe code".to_owned()));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// An `io::Error` that reaches a service becomes UNAVAILABLE there by a question mark alone; an `Errno` does not compile.
#[test]
fn sockets_answer_with_errno_and_never_with_an_io_error() {
    let broken = scan(|module, line| (module == "socket" && names(line, "io::Error")).then(|| "io::Error".to_owned()));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What a module beside `sys` may not name, so that there is no other way to the kernel's sockets than through types that want to have been
/// allowed: neither other libraries' calls, nor the standard ones, nor a bare descriptor that could be given to either.
const CALLS: &[&str] = &[
    "rustix::net",
    "socket2",
    "libc::socket(",
    "libc::bind(",
    "libc::connect(",
    "libc::listen(",
    "libc::accept",
    "libc::send",
    "libc::recv",
    "libc::setsockopt(",
    "libc::syscall(",
];
const OF_SOCKETS: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "TcpSocket",
    "UdpSocket",
    "AsFd",
    "as_fd(",
    "AsRawFd",
    "as_raw_fd(",
    "IntoRawFd",
    "OwnedFd",
    "BorrowedFd",
];

#[test]
fn only_sys_makes_system_calls_on_lab_sockets() {
    let broken = scan(|module, line| {
        // Doors of the agent are no lab sockets: their keepalive is set in its own way.
        let of_doors = module == "agent" && line.contains("use socket2::{SockRef, TcpKeepalive};");
        if module == "sys" || of_doors {
            return None;
        }
        let words = if module == "socket" { [CALLS, OF_SOCKETS].concat() } else { CALLS.to_vec() };
        words.iter().find(|word| line.contains(**word)).map(|word| format!("{module} names {word}"))
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A ruling without a policy allows everything: nobody but the gate says which one is in force.
#[test]
fn the_gate_alone_makes_rulings() {
    let made = scan(|_, line| line.contains("Ruling::new(").then(|| "a ruling".to_owned()));
    assert!(made.len() == 1 && made[0].starts_with("src/socket/gate.rs:"), "{made:?}");
}

#[test]
fn every_module_has_a_floor_and_stands_in_the_picture() {
    let picture = fs::read_to_string(src().join("lib.rs")).unwrap();
    for entry in fs::read_dir(src()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if ["lib", "main"].contains(&name) {
            continue;
        }
        assert!(floor_of(name).is_some(), "{name} has no floor");
        let drawn = |line: &str| line.starts_with("//! floor") && line.split_whitespace().any(|word| word == name);
        assert!(picture.lines().any(drawn), "{name} does not stand in the picture of src/lib.rs");
    }
}

#[test]
fn the_picture_is_the_same_wherever_it_stands() {
    let floors = |text: &str| -> Vec<String> {
        let line = |line: &str| line.trim_start_matches("//! ").to_owned();
        text.lines().map(line).filter(|line| line.starts_with("floor ")).collect()
    };
    let code = floors(&fs::read_to_string(src().join("lib.rs")).unwrap());
    assert!(!code.is_empty());
    assert_eq!(floors(&fs::read_to_string(src().join("../CONTRIBUTING.md")).unwrap()), code);
}

#[test]
fn files_and_lines_stay_readable() {
    for file in ["../src", "../tests", "../benches"].iter().flat_map(|dir| rust_files(&src().join(dir))) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines: split it", file.display());
    }
}

/// Whether the line has the word, and not just a longer one that begins with it.
fn names(line: &str, word: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') && !word.ends_with(':');
    line.match_indices(word).any(|(at, _)| !goes_on(&line[at + word.len()..]))
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Runs `rule` over every code line outside comments and `mod tests`, and lists what it objects to.
fn scan(rule: impl Fn(&str, &str) -> Option<String>) -> Vec<String> {
    let src = src();
    let mut broken = Vec::new();
    for file in rust_files(&src) {
        let path = file.strip_prefix(&src).unwrap().to_owned();
        let module = path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().take_while(|line| !line.starts_with("mod tests"));
        for (number, line) in code.enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if let Some(why) = rule(&module, line) {
                broken.push(format!("src/{}:{}: {why}", path.display(), number + 1));
            }
        }
    }
    broken
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .collect()
}
