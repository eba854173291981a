//! `farsock check`: whatever is wrong with a file is told at once, with its line, its column, and what would be right.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Ran, farsock, run, run_farsock};

/// What stands above the steps of the table.
const HEAD: &str = "exercise: Mistakes\nhosts: { a: , b: }\nsteps:\n";

/// Sockets that steps of the table may use.
const DOOR: &str = "on: a, listen: ':0', as: door";
const LINE: &str = "on: a, connect: '${b}:1', as: line";
const UDP: &str = "on: a, create: udp, as: u";

/// Steps, and what is wrong with the last of them: `column message | help`.
const STEPS: &[(&[&str], &str)] = &[
    // Who, and what.
    (&["on: c, listen: ':0', as: door"], "11 there is no host `c` | there is a, b"),
    (&["listen: ':0', as: door"], "15 the step does not say who does it | `on:` names one of a, b"),
    (&["on: a, lisen: ':0', as: door"], "14 there is no `lisen` here | did you mean `listen`?"),
    (
        &["on: a, listen: ':0', connect: 'x:1', as: door"],
        "37 a step does one thing, and this one has `listen` and `connect` | make two steps of it",
    ),
    (&["on: a, listen: ':0', as: door, as: gate"], "38 `as` is there twice | "),
    // Names.
    (&["on: a, listen: ':0'"], "11 `listen` makes a socket, which needs a name | give it one by `as: NAME`"),
    (&["on: a, listen: ':0', as: a"], "32 `a` is a host already | "),
    (
        &["on: a, listen: ':0', as: Door"],
        "32 `Door` is not a name: 1 to 48 of a-z 0-9 -, not starting or ending with - | ",
    ),
    (
        &["on: a, listen: ':0', as: door"],
        "32 `door` is made and never used | use it, expect something of it, or leave it out",
    ),
    (&[DOOR, DOOR], "32 there is a `door` already: each thing needs a name of its own | "),
    (&[DOOR, "on: a, close: dor"], "21 there is no socket `dor` yet | did you mean `door`?"),
    (&[DOOR, "on: b, close: door"], "21 `door` is a socket of a, not of b | write `on: a`"),
    (
        &[DOOR, "on: a, close: door", "on: a, write: door, text: hola"],
        "21 `door` was closed by step 2, and this is step 3 | ",
    ),
    (&[UDP, "on: a, write: u, text: hola"], "21 `u` is a UDP socket, and this is for TCP | `send` is for UDP"),
    (&[LINE, "on: a, send: line, text: hola"], "20 `line` is a TCP socket, and this is for UDP | `write` is for TCP"),
    (&[LINE, "on: a, accept: line, as: guest"], "22 `line` does not listen | "),
    (
        &[UDP, "on: a, send: u, text: hola, reply_to: n"],
        "45 there is no message `n` | `receive: SOCKET` with `as: NAME` gives a datagram a name",
    ),
    (&["on: a, connect: '${c}:1', as: line"], "23 ${c} is not known here | there is a, b"),
    (&[DOOR, "on: b, connect: '${door.prt}', as: line"], "23 `door` has no `prt` | did you mean `port`?"),
    // Groups.
    (&[UDP, "on: a, join: u"], "20 `join` needs `group` | "),
    (&[UDP, "on: a, leave: u"], "21 `leave` needs `group` | "),
    (
        &[LINE, "on: a, join: line, group: 239.1.2.3"],
        "20 `line` is a TCP socket, and this is for UDP | `write` is for TCP",
    ),
    (
        &[UDP, "on: a, join: u, group: 10.0.0.1"],
        "30 `10.0.0.1` is not a multicast group, such as 239.1.2.3 or ff15::7 | ",
    ),
    (
        &[UDP, "on: a, join: u, group: 239.1.2.3, source: b"],
        "49 `b` is not the IP address of a host, such as 10.0.0.2 | ",
    ),
    (
        &[UDP, "on: a, join: u, group: 239.1.2.3, interface: eth/0"],
        "52 `eth/0` is not an interface: a name such as eth0, an index from 1, an address such as 10.0.0.1, or all | ",
    ),
    (&[UDP, "on: a, block: u, group: 239.1.2.3"], "21 `block` needs `source` | "),
    // Words and numbers.
    (&["on: a, listen: ':70000', as: door"], "22 port 70000 is out of range: ports go up to 65535 | "),
    (
        &["on: a, listen: '127.1:0', as: door"],
        "22 `127.1` is not an IPv4 address: four decimal numbers up to 255 without leading zeros are needed | ",
    ),
    (
        &["on: a, listen: ':0', as: door, size: 3"],
        "44 `size` means nothing to `listen` | with `listen` go as, local, bind_retry, bind_retry_interval, family, labels, deny, allow, \
         backlog, max_connections, half_open, accepting, direction, delivery, paused, read_size, credit, read_interval, hash, verify, pattern, seed, \
         pattern_start, write_high_watermark, write_low_watermark, close_on_write_timeout, idle_timeout, read_delay, close_delay, tcp_state_events, options, max_accepts, accept_delay",
    ),
    (
        &["on: a, listen: ':0', as: door, deny: 10.0.0.7/8"],
        "44 `10.0.0.7/8` is an address in a network: 10.0.0.0/8 is the network | ",
    ),
    (
        &["on: a, listen: ':0', as: door, seed: 3"],
        "44 a new socket has no bytes | with `verify: true` it compares what it receives with that pattern",
    ),
    (&["on: a, listen: ':0', as: door, bind_retry_interval: 1s"], "59 `bind_retry_interval` goes with `bind_retry` | "),
    (
        &["on: a, listen: ':0', as: door, labels: { '-': x }"],
        "48 `-` is no key: 1 to 63 of A-Z a-z 0-9 - _ . /, with a letter or digit at both ends | ",
    ),
    (&["on: a, listen: ':0', as: door, backlog: 0"], "47 `backlog` goes from 1 to 65535, and this is 0 | "),
    (
        &["on: a, listen: ':0', as: door, half_open: allways"],
        "49 `allways` is none of the words that fit here | did you mean `allow`?",
    ),
    (&["on: a, listen: ':0', as: door, within: 3"], "46 `3` is no time | write it as 250ms, 1.5s or 2m30s"),
    (&["on: a, listen: ':0', as: door, within: 25h"], "46 that is longer than a day | "),
    (
        &["on: a, listen: ':0', as: door, error: ECONREFUSED"],
        "45 `ECONREFUSED` is no error | did you mean `ECONNREFUSED`?",
    ),
    (
        &["on: a, listen: ':0', as: door, options: { TCP_NODELY: true }"],
        "61 there is no option `TCP_NODELY`: did you mean TCP_NODELAY? | ",
    ),
    (&["on: a, listen: ':0', as: door, options: { TCP_NODELAY: 7 }"], "62 `7` is neither on nor off | "),
    (&["on: a, create: sctp, as: x"], "22 `sctp` is none of the words that fit here | there is tcp, udp"),
    (&[LINE, "on: a, close: line, linger: 1.5s"], "21 `linger` takes whole seconds, at most 65535s | "),
    (
        &[LINE, "on: a, shutdown: line, how: write"],
        "35 `write` is none of the words that fit here | there is send, receive, both",
    ),
    (
        &["on: a, listen: ':0', as: door, accepting: manual, accept_delay: 1s"],
        "71 `accept_delay` is for a listener that accepts by itself | ",
    ),
    (
        &["on: a, listen: ':0', as: door, close_delay: 1s"],
        "51 without an end there is no `close_delay` | `half_open: auto_end` does",
    ),
    (&["on: a, connect: 'b:1', as: line, retry: 1001"], "47 `retry` goes from 0 to 1000, and this is 1001 | "),
    (&["on: a, connect: 'b:1', as: line, attempt_delay: 1ms"], "55 `attempt_delay` goes from 10ms on | "),
    (
        &["on: a, connect: 'b:1', as: line, local: ':0', attempt_delay: 1s"],
        "68 attempts that race each other have addresses of their own | leave out `local` or `attempt_delay`",
    ),
    (&["on: a, connect: 'b:1', as: line, retry_interval: 1s"], "56 `retry_interval` goes with `retry` | "),
    (&["on: a, connect: 'b:1', as: line, retry: 3, retry_interval: 1ms"], "66 `retry_interval` goes from 10ms on | "),
    (
        &[LINE, "on: a, expect: line, tcp_info: { data_segs_out: 1 }"],
        "40 `data_segs_out` is no number of TCP_INFO | did you mean `data_segments_sent`?",
    ),
    (
        &[LINE, "on: a, expect: line, memory: { recieved: 1 }"],
        "38 `recieved` is no number of SO_MEMINFO | did you mean `received`?",
    ),
    (&[LINE, "on: a, expect: line, bytes_read: many"], "40 `many` is no number such as 5, > 5, <= 5 or 5..9 | "),
    (&["on: a, listen: ':0', as: door, paused: maybe"], "46 `paused` is true or false, and this is `maybe` | "),
    (
        &["on: a, listen: ':0', as: door, credit: some"],
        "46 `credit` is a whole number from 1 to 4294967295, and this is `some` | ",
    ),
    (
        &["on: a, connect: 'b:1', as: line, write_low_watermark: 1"],
        "61 `write_low_watermark` goes up to `write_high_watermark` | ",
    ),
    (&["on: a, create: udp, as: u, interface: lo"], "45 `interface` goes with `group` | "),
    (&["on: a, resolve: { address: b }, address: b"], "34 `b` is no IP address | "),
    (&["on: a, resolve: { port: 70000 }, port: 1"], "31 `port` goes from 0 to 65535, and this is 70000 | "),
    (&[UDP, "on: a, flush: u"], "21 `u` is a UDP socket, and this is for TCP | `send` is for UDP"),
    (&[LINE, "on: a, disconnect: line"], "26 `line` is a TCP socket, and this is for UDP | `write` is for TCP"),
    (&[LINE, "on: a, write: line, text: hola, slice_size: 1"], "51 `slice_size` and `slice_interval` go together | "),
    // Order, and how many.
    (&[LINE, "order: [{ expect: line, event: written }]"], "14 `order` needs two events at least | "),
    (
        &[LINE, "on: a, order: [{ expect: line, event: written }, { expect: line, event: closed }]"],
        "11 `on` means nothing to `order`: its sockets say whose they are | ",
    ),
    (
        &[LINE, "order: [{ expect: lime, event: written }, { expect: line, event: closed }]"],
        "25 there is no socket `lime` yet | did you mean `line`?",
    ),
    (
        &[LINE, "order: [{ expect: line, event: writen }, { expect: line, event: closed }]"],
        "38 `writen` is none of the words that fit here | did you mean `written`?",
    ),
    (
        &[LINE, "on: a, receive: line, text: hola, count: 2"],
        "48 a stream has no messages to count | `size` says how many bytes are received",
    ),
    (&[UDP, "on: a, receive: u, count: 2, as: one"], "40 `as` names one datagram, and `count` is of several | "),
    // Loops and included files.
    (&["foreach: [1]"], "16 `foreach` needs `steps` | "),
    (&["foreach: [], steps: [{ on: a, parse: x, is: none }]"], "16 `foreach` goes over nothing | "),
    (
        &["foreach: { hosts: everybody }, steps: [{ on: a, parse: x, is: none }]"],
        "25 `everybody` stands for no hosts | write `all`, or a list of roles",
    ),
    (
        &["foreach: { hosts: [a, c] }, steps: [{ on: a, parse: x, is: none }]"],
        "29 there is no host `c` | there is a, b",
    ),
    (
        &["foreach: { hots: all }, steps: [{ on: a, parse: x, is: none }]"],
        "18 there is no `hots` here | did you mean `hosts`?",
    ),
    (
        &["foreach: { pairs: all, hosts: all }, steps: [{ on: a, parse: x, is: none }]"],
        "16 `foreach` goes over a list of values, or over one of values, hosts and pairs | ",
    ),
    (
        &["foreach: { pairs: all }, steps: [{ on: a, parse: '${item}', is: none }]"],
        "56 `item` is a pair of hosts: write ${item.first} or ${item.second} | ",
    ),
    (
        &["foreach: [1, x], steps: [{ on: a, resolve: { port: '${item}' }, port: 1 }]"],
        "58 `port` is a whole number from 0 to 65535, and this is `x` | ",
    ),
    (
        &["foreach: [1, 2], steps: [{ on: a, listen: ':0', as: door }]"],
        "59 there is a `door` already: each thing needs a name of its own | ",
    ),
    (&["foreach: [1], as: a, steps: [{ on: a, parse: x, is: none }]"], "25 `a` is a host already | "),
    (
        &["foreach: [1], steps: [{ on: a, parse: '${itme}', is: none }]"],
        "45 ${itme} is not known here | did you mean `item`?",
    ),
    // Branches.
    (
        &["parallel: [[{ on: a, listen: ':0', as: door }], [{ on: b, connect: '${door}', as: line }]]"],
        "74 `door` comes of another branch, which goes on at the same time | make it before the branches begin, or use it when they are over",
    ),
    (
        &["parallel: [[{ on: a, create: udp, as: u }], { on: a, close: u }]"],
        "67 `u` comes of another branch, which goes on at the same time | make it before the branches begin, or use it when they are over",
    ),
    (
        &["together: { steps: [{ on: a, create: udp, as: u }, { on: b, create: udp, as: v }] }"],
        "17 `together` needs `align` | it says how far apart the starts may lie, such as 5ms",
    ),
    (
        &["together: { align: 5, steps: [{ on: a, create: udp, as: u }] }"],
        "26 `5` is no time | write it as 250ms, 1.5s or 2m30s",
    ),
    (&["together: { align: 5ms, steps: [] }"], "17 `together` needs two steps at least | "),
    (
        &["together: { align: 5ms, steps: [{ on: a, parse: x, is: none }, { on: b, create: udp, as: v }] }"],
        "55 `parse` waits or looks, and so it does not begin at an instant | ",
    ),
    (
        &["together: { align: 5ms, steps: [{ include: more.yaml }] }"],
        "50 `include` does not begin at an instant | `together` has steps, and loops over steps",
    ),
    (
        &["parallel: [{ on: a, parse: x, is: none }]"],
        "17 `parallel` needs two branches at least | each is a step, or a list of steps",
    ),
    (&["parallel: [x, y]"], "18 invalid type: string \"x\", expected a step, or a list of steps | "),
    (
        &["parallel: [{ on: a, parse: x, is: none }], on: a"],
        "54 `on` means nothing to `parallel` | with `parallel` go note",
    ),
    (
        &["foreach: [1], on: a, steps: [{ on: a, parse: x, is: none }]"],
        "25 `on` means nothing to `foreach` | with `foreach` go as, steps, note",
    ),
    (&["include: more.yaml, as: x"], "31 `as` means nothing to `include` | with `include` go with, note"),
    (
        &["include: more.yaml"],
        "16 `more.yaml` cannot be included: ${folder}/more.yaml: No such file or directory (os error 2) | ",
    ),
    (&["include: /more.yaml"], "16 `/more.yaml` cannot be included: give its path from the file that includes it | "),
    (&["include: exercise.yaml"], "16 `exercise.yaml` is the exercise itself | "),
    // What is missing, and what is too much.
    (&["on: a, parse: '127.0.0.1'"], "21 `parse` needs `is` | "),
    (&["on: a, parse: '127.0.0.1', is: ipv4, error: EINVAL"], "51 `error` means nothing to `parse`: it never fails | "),
    (&[DOOR, "on: a, accept: door"], "22 `accept` needs `as` | "),
    (&[LINE, "on: a, write: line"], "21 there is nothing to write | give it by one of text, hex and pattern"),
    (&[LINE, "on: a, write: line, text: hola, hex: '00'"], "33 one of text, hex, pattern and matches says it all | "),
    (&[LINE, "on: a, write: line, hex: '0g'"], "32 the byte before 2 has one digit only: two a byte are needed | "),
    (&[LINE, "on: a, write: line, text: '語', encoding: latin1"], "33 windows-1252 has no character 語 | "),
    (
        &[LINE, "on: a, write: line, text: hola, encoding: utf-9"],
        "49 `utf-9` is no encoding that is known here: labels are those of encoding.spec.whatwg.org, such as utf-8, utf-16le, gbk | ",
    ),
    (
        &[LINE, "on: a, set: line"],
        "19 there is nothing to set | `set` takes delivery, paused, read_size, credit, read_interval, hash and options",
    ),
    (
        &[DOOR, "on: a, expect: door"],
        "22 nothing is expected of `door` | say what: event, state, tcp_state, tcp_info, memory, connections, queue, bytes_read, \
         bytes_written, receive_queue, send_queue, pending_write_bytes, datagrams_dropped, hash_received, hash_written, verified, \
         wrong_bytes, wrong_datagrams, probes_received, probes_lost, probes_duplicated, probes_reordered, \
         readable, writable, self_connected, local, peer, labels, backlog, or quiet",
    ),
    (
        &[DOOR, "on: a, expect: door, event: conected"],
        "35 `conected` is none of the words that fit here | did you mean `connected`?",
    ),
    (&[DOOR, "on: a, expect: door, quiet: 100ms, error: ECONNREFUSED"], "49 `error` means nothing to silence | "),
];

/// Whole files, and what is wrong with them: `line:column message | help`.
const FILES: &[(&str, &str)] = &[
    ("", "1:1 unexpected end of input | "),
    ("exercise: x\n", "1:1 `hosts` is missing | "),
    ("exercise: x\nhost: { a: }\nsteps: []\n", "2:1 there is no `host` here | did you mean `hosts`?"),
    ("exercise: x\nhosts: { a: }\nsteps: []\n", "1:11 the exercise has no steps | "),
    ("exercise: x\nhosts: {}\nsteps:\n  - { parse: x }\n", "1:1 `hosts` names nobody: it needs at least one role | "),
    ("exercise: x\nhosts: { a: , a: }\nsteps: []\n", "2:15 `a` is there twice | "),
    (
        "exercise: x\nhosts: { a: }\nvars: { a: 1 }\nsteps:\n  - { on: a, parse: x, is: none }\n",
        "3:9 `a` is a host already | ",
    ),
    (
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a }\n",
        "4:11 the step does nothing | a step has one of create, bind, \
      listen, accept, connect, write, send, receive, shutdown, close, abort, set, join, leave, block, unblock, filter, flush, disconnect, resolve, parse, expect, \
         order, foreach, include, parallel, together",
    ),
    (
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, create: udp, as: u }\nfinally:\n  - { on: a, close: v }\n",
        "6:21 there is no socket `v` yet | there is u",
    ),
    (
        "exercise: x\nhosts: { a: }\nsteps:\n  - on: a\n      listen: ':0'\n    as: door\n",
        "5:13 mapping values are not allowed in this context | ",
    ),
];

/// Names and texts.
type Files = &'static [(&'static str, &'static str)];

/// Files beside the exercise, and what is wrong in which of them: `file:line:column message | help`.
const INCLUDED: &[(Files, &str, &str)] = &[
    (
        &[("more.yaml", "steps:\n  - { on: a, lisen: x }\n")],
        "include: more.yaml",
        "more.yaml:2:14 there is no `lisen` here | did you mean `listen`?",
    ),
    (
        &[("more.yaml", "steps:\n  - { on: c, parse: x, is: none }\n")],
        "include: more.yaml",
        "more.yaml:2:11 there is no host `c` | there is a, b",
    ),
    (
        &[("more.yaml", "vars: { port: }\nsteps:\n  - { on: a, parse: '${port}', is: none }\n")],
        "include: more.yaml",
        "more.yaml:1:9 `port` has no value | give it one by `with: { port: VALUE }`",
    ),
    (
        &[("more.yaml", "vars: { port: 1 }\nsteps:\n  - { on: a, parse: x, is: none }\n")],
        "include: more.yaml, with: { prt: 2 }",
        "exercise.yaml:4:35 `more.yaml` takes no `prt` | did you mean `port`?",
    ),
    (
        &[("more.yaml", "vars: { port: 1 }\nsteps:\n  - { on: a, parse: x, is: none }\n")],
        "include: more.yaml",
        "more.yaml:1:9 `port` is never used | write ${port} where it is meant, or leave it out",
    ),
    (
        &[("one.yaml", "steps: [{ include: two.yaml }]"), ("two.yaml", "steps: [{ include: ./one.yaml }]")],
        "include: one.yaml",
        "two.yaml:1:20 `./one.yaml` includes itself: one.yaml → two.yaml → one.yaml | ",
    ),
    (
        &[("more.yaml", "exercise: x\n")],
        "include: more.yaml",
        "more.yaml:1:1 there is no `exercise` here | there is about, vars, steps",
    ),
];

#[tokio::test]
async fn a_mistake_in_an_included_file_is_told_with_its_place_there() {
    for (files, step, expected) in INCLUDED {
        let folder = TempDir::new().unwrap();
        let text = format!("{HEAD}  - {{ {step} }}\n");
        for (name, text) in files.iter().chain([("exercise.yaml", text.as_str())].iter()) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut command = farsock(folder.path());
        command.args(["check", "--json"]).arg("exercise.yaml").current_dir(folder.path());
        let ran = run(command).await;
        let mistake: Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
        let word = |field: &str| mistake[field].as_str().unwrap_or_default().to_owned();
        let told = format!(
            "{}:{}:{} {} | {}",
            word("file"),
            mistake["line"],
            mistake["column"],
            word("message"),
            word("help")
        );
        assert_eq!((ran.code, told.as_str()), (Some(2), *expected), "{}", ran.out);
    }
}

/// However a file multiplies itself, the check ends soon, and says where it became too much.
#[tokio::test]
async fn files_that_multiply_themselves_are_refused() {
    let values = (1..=30).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let nested = |depth: usize| {
        let step = "{ on: a, parse: x, is: none }".to_owned();
        (0..depth).fold(step, |step, n| format!("{{ foreach: [{values}], as: i{n}, steps: [{step}] }}"))
    };
    let told = mistakes(&format!("{HEAD}  - {}\n", nested(4))).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("this would be more than 10000 steps | "), "{told:?}");
    let told = mistakes(&format!("{HEAD}  - {}\n", nested(9))).await;
    assert!(
        told[0].ends_with("loops, branches and included files stand more than 8 deep in each other | "),
        "{told:?}"
    );
}

/// Variables: with values of their own, and with values that are given; each must mean something.
#[tokio::test]
async fn variables_are_given_on_the_command_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exercise.yaml");
    let text = "exercise: x\nhosts: { a: }\nvars: { address: , kind: ipv4 }\nsteps:\n  - { on: a, parse: '${address}', is: '${kind}' }\n";
    fs::write(&file, text).unwrap();
    let ran = |words: &'static [&'static str]| {
        let mut command = farsock(folder.path());
        command.args(words).arg(&file);
        run(command)
    };
    let lacking = ran(&["check"]).await;
    assert!(
        lacking.err.contains("`address` has no value") && lacking.err.contains("--var address=VALUE"),
        "{lacking:?}"
    );
    let given = ran(&["run", "--var", "address=127.0.0.1"]).await;
    assert_eq!((given.code, given.err.as_str()), (Some(0), ""), "{}", given.out);
    let other = ran(&["run", "--var", "address=::1", "--var", "kind=ipv6"]).await;
    assert_eq!((other.code, other.err.as_str()), (Some(0), ""), "{}", other.out);
    let unknown = ran(&["check", "--var", "address=x", "--var", "knd=ipv6"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("no exercise has such a variable: did you mean `kind`?"), "{}", unknown.err);
    assert_eq!(ran(&["check", "--var", "address"]).await.code, Some(1));
    fs::write(&file, "exercise: x\nhosts: { a: }\nvars: { v: 1 }\nsteps: [{ on: a, parse: x, is: none }]\n").unwrap();
    let unused = ran(&["check"]).await;
    assert!(unused.err.contains("`v` is never used"), "{unused:?}");
}

/// Checks a file, and answers its mistakes as `line:column message | help`.
async fn mistakes(text: &str) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exercise.yaml");
    fs::write(&file, text).unwrap();
    let mut command = farsock(folder.path());
    command.args(["check", "--json"]).arg(&file);
    let Ran { code, out, err } = run(command).await;
    assert_eq!((code, err.as_str()), (Some(2), ""), "{text}\n{out}");
    let show = |line: &str| {
        let line = line.replace(folder.path().to_str().unwrap(), "${folder}");
        let mistake: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (mistake["type"].as_str(), mistake["file"].as_str()),
            (Some("mistake"), Some("${folder}/exercise.yaml")),
            "{line}"
        );
        let word = |field: &str| mistake[field].as_str().unwrap_or_default().to_owned();
        format!("{}:{} {} | {}", mistake["line"], mistake["column"], word("message"), word("help"))
    };
    out.lines().map(show).collect()
}

#[tokio::test]
async fn a_mistake_in_a_step_is_told_with_its_place_and_what_would_be_right() {
    let mut wrong = Vec::new();
    for (steps, expected) in STEPS {
        let text: String =
            std::iter::once(HEAD.to_owned()).chain(steps.iter().map(|s| format!("  - {{ {s} }}\n"))).collect();
        let expected = format!("{}:{expected}", 3 + steps.len());
        let told = mistakes(&text).await;
        if told.first() != Some(&expected) {
            wrong.push(format!("{text}wanted {expected}\ntold   {told:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_mistake_in_a_file_is_told_with_its_place() {
    let mut wrong = Vec::new();
    for (text, expected) in FILES {
        let told = mistakes(text).await;
        if told.first().map(String::as_str) != Some(expected) {
            wrong.push(format!("{text}wanted {expected}\ntold   {told:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn all_mistakes_of_all_files_are_told_at_once() {
    let text = format!("{HEAD}  - {{ on: c, close: x }}\n  - {{ on: a, close: y }}\n  - {{ on: a, parse: '1' }}\n");
    let told = mistakes(&text).await;
    let places: Vec<&str> = told.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(places, ["4:11", "5:21", "6:21"], "{told:?}");

    let folder = TempDir::new().unwrap();
    for name in ["2.yaml", "1.yaml", "notes.txt"] {
        fs::write(folder.path().join(name), &text).unwrap();
    }
    let mut command = farsock(folder.path());
    command.arg("check").arg(folder.path());
    let ran = run(command).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.find("1.yaml: 3 mistakes").unwrap() < ran.err.find("2.yaml: 3 mistakes").unwrap(), "{}", ran.err);
    assert!(!ran.err.contains("notes.txt"), "{}", ran.err);
}

/// For people: the line itself, a pointer under the place, and the advice.
#[tokio::test]
async fn people_see_the_line_and_a_pointer() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exercise.yaml");
    fs::write(&file, format!("{HEAD}  - {{ {DOOR} }}\n  - {{ on: a, expect: dor, state: listening }}\n")).unwrap();
    let mut command = farsock(folder.path());
    command.arg("check").arg(&file);
    let ran = run(command).await;
    assert!(ran.err.contains(&format!("{}:5:22", file.display())), "{}", ran.err);
    for piece in
        ["  - { on: a, expect: dor, state: listening }", "there is no socket `dor` yet", "did you mean `door`?"]
    {
        assert!(ran.err.contains(piece), "{piece}: {}", ran.err);
    }
    assert!(!ran.err.contains('\x1b'), "no colours where nobody can see them");
}

#[tokio::test]
async fn what_is_right_is_listed() {
    let ran = run_farsock(&["check", "tests/exercises/tutorials"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let files = fs::read_dir("tests/exercises/tutorials").unwrap().count();
    assert_eq!(ran.out.lines().count(), files);
    assert!(ran.out.lines().all(|line| line.starts_with("✓ ") && line.contains(" steps  tests/exercises/tutorials/")));
    assert_eq!(run_farsock(&["check", "--json", "tests/exercises/tutorials"]).await.out, "");
}
