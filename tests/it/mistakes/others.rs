//! Files that are wrong as a whole, by what they are.

use farsock::exercise::inventory::Mode;

use crate::mistakes::{Case, Of, Page};

/// What stands above the steps of an exercise with hosts that an inventory knows.
const STEPS: &str = "steps:\n  - { on: a, parse: x, is: none }\n";

/// Hosts that join networks.
const LAB: &str = "hosts:\n  lab-a: { agent: 'a:1', groups: [web], labels: { site: madrid }, addresses: { front: 192.0.2.1 } }\n  lab-b: { agent: 'b:1', groups: [web] }\n";

pub(super) fn others() -> Vec<Page> {
    vec![
        Page { name: "files", cases: files() },
        Page { name: "too-much", cases: too_much() },
        Page { name: "included", cases: included() },
        Page { name: "networks", cases: networks() },
        Page { name: "embedded", cases: embedded() },
        Page { name: "roles", cases: roles() },
        Page { name: "inventory", cases: inventories() },
    ]
}

/// What is no exercise.
fn files() -> Vec<Case> {
    let texts = [
        "",
        "exercise: x\n",
        "hosts: { a: }\nsteps: []\n",
        "exercise: x\nhost: { a: }\nsteps: []\n",
        "exercise: x\nhosts: { a: }\nsteps: []\n",
        "exercise: x\nhosts: {}\nsteps:\n  - { parse: x }\n",
        "exercise: x\nhosts: { a: , a: }\nsteps: []\n",
        "exercise: x\nhosts: { A: }\nsteps:\n  - { on: A, parse: x, is: none }\n",
        "exercise: x\nhosts: { a: }\nvars: { a: 1 }\nsteps:\n  - { on: a, parse: x, is: none }\n",
        "exercise: x\nhosts: { a: }\nvars: { port: }\nsteps:\n  - { on: a, parse: \"${port}\", is: none }\n",
        "exercise: x\nhosts: { a: }\nvars: { port: 1 }\nsteps:\n  - { on: a, parse: x, is: none }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, create: udp, as: u }\nfinally:\n  - { on: a, close: v }\n",
        // What YAML does not take.
        "exercise: x\nhosts: { a: }\nsteps:\n  - on: a\n      listen: ':0'\n    as: door\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - on: a\n    listen: :0: door\n",
        "exercise: x\nhosts: { a: }\nsteps:\n\t- on: a\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, listen: ':0', as: door\n  - { on: a, close: door }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, listen: ':0, as: door }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - on: a\n   listen: ':0'\n",
        "exercise: 'x\n",
        "exercise: \"a\\q\"\nhosts: { a: }\nsteps: []\n",
        "exercise: x\nhosts: { a: }\nsteps: []\n---\nexercise: y\n",
        "%YAML 9.9\n---\nexercise: x\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - on: a\n    write: line\n    text: 'one' two\n",
        "exercise: x\nabout: &\nhosts: { a: }\nsteps: []\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  -\ton: a\n",
        "exercise: @x\nhosts: { a: }\nsteps: []\n",
        "exercise: *x\nhosts: { a: }\nsteps: []\n",
        "exercise: &x y\nhosts: { <<: *x }\nsteps: []\n",
        "{",
        "---\n",
        // What stands where something else is meant.
        "hello\n",
        "- exercise\n- hosts\n",
        "exercise: [x]\nhosts: { a: }\nsteps: []\n",
        "exercise:\nhosts: { a: }\nsteps: []\n",
        "exercise: x\nhosts: [a, b]\nsteps: []\n",
        "exercise: x\nhosts: a\nsteps: []\n",
        "exercise: x\nhosts:\nsteps: []\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  on: a\n  listen: ':0'\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - listen\n",
        "exercise: x\nhosts: { a: }\nsteps: none\n",
        "exercise: x\nhosts: { a: }\nsteps:\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, listen: [':0'], as: door }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, listen: ':0', as: { name: door } }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, listen: ':0', as: door, labels: site }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, listen: ':0', as: door, options: [TCP_NODELAY] }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, listen: , as: door }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, resolve: b }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - order: { expect: x, event: closed }\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - order: [{ expect: x }, { expect: x, event: closed }]\n",
        "exercise: x\nhosts: { a: }\nsteps:\n  - { foreach: { hosts: all, hosts: all }, steps: [] }\n",
        "exercise: x\nhosts: { a: }\nvars: [port]\nsteps: []\n",
    ];
    texts.into_iter().map(Case::exercise).collect()
}

/// Files that are more than anybody writes.
fn too_much() -> Vec<Case> {
    let values = (1..=30).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let nested = |depth: usize| {
        let step = "{ on: a, parse: x, is: none }".to_owned();
        (0..depth).fold(step, |step, n| format!("{{ foreach: [1], as: i{n}, steps: [{step}] }}"))
    };
    let head = "exercise: x\nhosts: { a: }\nsteps:\n";
    let loops = format!(
        "{head}  - foreach: [{values}]\n    steps:\n      - foreach: [{values}]\n        as: more\n        steps:\n          - foreach: [{values}]\n            as: most\n            steps: [{{ on: a, parse: x, is: none }}]\n"
    );
    let files = (1..=101).map(|n| format!("  - include: {n}.yaml\n")).collect::<String>();
    let mut many_files = Case::exercise(format!("{head}{files}"));
    for n in 1..=101 {
        many_files = many_files.beside(&format!("{n}.yaml"), STEPS);
    }
    let labels = (1..=17).map(|n| format!("k{n}: x")).collect::<Vec<_>>().join(", ");
    let denied = vec!["::"; 257].join(",");
    let hosts = |count: usize| (1..=count).map(|n| format!("  h{n}:\n")).collect::<String>();
    let many_hosts = format!("exercise: x\nhosts:\n{}steps:\n  - {{ on: h1, parse: x, is: none }}\n", hosts(251));
    let joined = format!(
        "{many_hosts}networks:\n  lan:\n    subnet: 10.0.0.0/16\n    hosts:\n{}",
        hosts(251).replace("  h", "      h")
    );
    let networks =
        (1..=65).map(|n| format!("  n{n}: {{ subnet: 10.0.{n}.0/24, hosts: {{ a: }} }}\n")).collect::<String>();
    let addresses = format!("  {}\n", "x".repeat(60)).repeat(18_000);
    vec![
        Case::exercise(format!("exercise: x\nabout: |\n{addresses}")),
        Case::exercise(loops),
        Case::exercise(format!("{head}  - {}\n", nested(9))),
        Case::exercise(format!("{head}  - {}\n", nested(13))),
        Case::exercise(format!("{head}  - &step {{ on: a, parse: x, is: none }}\n{}", "  - *step\n".repeat(101))),
        Case::exercise(format!("{head}  - {{ on: a, listen: ':0', as: door, deny: '{denied}' }}\n")),
        many_files,
        Case::exercise(format!(
            "{head}  - {{ on: a, listen: ':0', as: door, labels: {{ {labels} }} }}\n  - {{ on: a, close: door }}\n"
        )),
        Case::exercise(many_hosts).of(Of::Exercise(Mode::Namespaces)),
        Case::exercise(joined).of(Of::Exercise(Mode::Namespaces)),
        Case::exercise(format!("exercise: x\nhosts: {{ a: }}\nnetworks:\n{networks}{STEPS}"))
            .of(Of::Exercise(Mode::Namespaces)),
        Case::inventory(format!("hosts:\n{}", (1..=4097).map(|n| format!("  h{n}:\n")).collect::<String>())),
    ]
}

/// Files that an exercise includes.
fn included() -> Vec<Case> {
    let including =
        |step: &str| Case::exercise(format!("exercise: x\nhosts: {{ a: , b: }}\nsteps:\n  - {{ {step} }}\n"));
    vec![
        including("include: more.yaml"),
        including("include: exercise.yaml"),
        including("include: more.yaml, as: x").beside("more.yaml", STEPS),
        including("include: more.yaml").beside("more.yaml", "steps:\n  - { on: a, lisen: x }\n"),
        including("include: more.yaml").beside("more.yaml", "steps:\n  - { on: c, parse: x, is: none }\n"),
        including("include: more.yaml")
            .beside("more.yaml", "vars: { port: }\nsteps:\n  - { on: a, parse: '${port}', is: none }\n"),
        including("include: more.yaml, with: { prt: 2 }")
            .beside("more.yaml", "vars: { port: 1 }\nsteps:\n  - { on: a, parse: '${port}', is: none }\n"),
        including("include: more.yaml").beside("more.yaml", format!("vars: {{ port: 1 }}\n{STEPS}")),
        including("include: one.yaml")
            .beside("one.yaml", "steps: [{ include: two.yaml }]\n")
            .beside("two.yaml", "steps: [{ include: ./one.yaml }]\n"),
        including("include: more.yaml").beside("more.yaml", "exercise: x\nhosts: { a: }\nsteps: []\n"),
        including("include: more.yaml").beside("more.yaml", "- on: a\n"),
        including("parallel: [{ foreach: [1, 2], steps: [{ include: more.yaml }] }]")
            .beside("more.yaml", "steps:\n  - { on: a, close: x }\n"),
    ]
}

/// Networks that cannot be.
fn networks() -> Vec<Case> {
    let joined = |networks: &str| {
        Case::exercise(format!("exercise: x\nhosts: {{ a: , b: }}\nnetworks:\n{networks}{STEPS}"))
            .of(Of::Exercise(Mode::Namespaces))
    };
    let lan = "  lan: { subnet: 10.0.1.0/24, hosts: { a: , b: } }\n";
    vec![
        joined("  lan: { subnet: 10.0.1.0, hosts: { a: , b: } }\n"),
        joined("  lan: { subnet: 10.0.1.7/24, hosts: { a: , b: } }\n"),
        joined(&format!("{lan}  wan: {{ subnet: 10.0.0.0/16, hosts: {{ a: , b: }} }}\n")),
        joined("  lan: { subnet: [], hosts: { a: , b: } }\n"),
        joined("  lan: { hosts: { a: , b: } }\n"),
        joined("  lan: { subnet: 10.0.1.0/24, hosts: [a, b] }\n"),
        joined("  lan: { subnet: { v4: 10.0.1.0/24 }, hosts: { a: , b: } }\n"),
        joined("  lan: { subnet: 10.0.1.0/24, mtu: 9, hosts: { a: , b: } }\n"),
        joined("  lan: { subnet: '2001:db8::/64', mtu: 1000, hosts: { a: , b: } }\n"),
        joined("  lan: { subnet: 10.0.1.0/30, hosts: { a: , b: , c: } }\n"),
        joined("  lan: { subnet: 10.0.1.4/31, hosts: { a: , b: } }\n"),
        joined("  lan: { subnet: 10.0.1.0/24, hosts: { a: ten, b: } }\n"),
        joined("  lan: { subnet: 10.0.1.0/24, hosts: { a: 10.0.2.1, b: } }\n"),
        joined("  lan: { subnet: 10.0.1.0/24, hosts: { a: 10.0.1.255, b: } }\n"),
        joined("  lan: { subnet: 10.0.1.0/24, hosts: { a: 10.0.1.1, b: 10.0.1.1 } }\n"),
        joined("  lan: { subnet: 10.0.1.0/24, hosts: { a: } }\n"),
        joined("  Lan: { subnet: 10.0.1.0/24, hosts: { a: , b: } }\n"),
        joined(&format!("{lan}routers: {{ a: }}\n")),
        joined(&format!("{lan}  wan: {{ subnet: 10.0.2.0/24, hosts: {{ a: }} }}\nrouters: {{ a: {{ nft: cut.nft }}, c: }}\n")),
        joined(&format!("{lan}  wan: {{ subnet: 10.0.2.0/24, hosts: {{ a: }} }}\nrouters: {{ a: {{ ntf: cut.nft }} }}\n")),
        Case::exercise(format!("exercise: x\nhosts: {{ a: , b: }}\nrouters: {{ a: }}\n{STEPS}")),
        // Who has no networks of its own.
        joined(lan).of(Of::Exercise(Mode::Machines)),
        Case::exercise(format!(
            "exercise: x\nhosts: {{ a: lab-a, b: lab-b }}\nnetworks:\n{lan}  wan: {{ subnet: 10.0.2.0/24, hosts: {{ a: }} }}\nrouters: {{ a: {{ nft: cut.nft }} }}\n{STEPS}"
        ))
        .beside("cut.nft", "")
        .of(Of::Played(LAB)),
        // Where a host has its addresses.
        Case::exercise(format!("exercise: x\nhosts: {{ a: , b: }}\nnetworks:\n{lan}steps:\n  - {{ on: a, connect: '${{b.lna}}:80', as: line }}\n"))
            .of(Of::Exercise(Mode::Namespaces)),
        Case::exercise("exercise: x\nhosts: { a: lab-a }\nsteps:\n  - { on: a, connect: '${a.back}:80', as: line }\n").of(Of::Played(LAB)),
    ]
}

/// What agents within the process cannot hold.
fn embedded() -> Vec<Case> {
    let steps = [
        "  - { on: a, listen: '[::1]:8080', as: door }\n  - { on: b, listen: '[::]:8080', as: gate }\n  - { on: a, close: door }\n  - { on: b, close: gate }\n",
        "  - { on: a, create: udp, as: u, local: '10.0.1.2:0' }\n  - { on: a, close: u }\n",
    ];
    let played = |steps: &&str| Case::exercise(format!("exercise: x\nhosts: {{ a: , b: }}\nsteps:\n{steps}"));
    steps.iter().map(|steps| played(steps).of(Of::Exercise(Mode::Machines))).collect()
}

/// Roles that nobody plays.
fn roles() -> Vec<Case> {
    let played = |hosts: &str| Case::exercise(format!("exercise: x\nhosts: {{ {hosts} }}\n{STEPS}"));
    let listed = |hosts: &str| played(hosts).of(Of::Played(LAB));
    vec![
        listed("a: lab-q"),
        listed("a: printer"),
        listed("a: site=madird"),
        listed("a: lab-a, b: lab-a"),
        listed("a: web, b: web, c: web"),
        listed("a: 'lab-a:port'"),
        played("a: 'lab-a:70000'"),
        played("a: 'unix:'"),
        played("a: 'ssh://-oProxyCommand=x'"),
    ]
}

/// Inventories that cannot be read.
fn inventories() -> Vec<Case> {
    let texts = [
        "",
        "hosts: {}\n",
        "hosts:\n",
        "host: { lab-a: }\n",
        "hosts: [lab-a, lab-b]\n",
        "hosts: { lab-a: [7625] }\n",
        "hosts:\n  lab-a: { agnt: 'a:1' }\n",
        "hosts:\n  lab-a: { agent: 'a:1' }\n  lab-a: { agent: 'b:1' }\n",
        "hosts:\n  7625: { agent: 'a:1' }\n",
        "hosts:\n  lab a: { agent: 'a:1' }\n",
        "hosts:\n  lab-a: 'lab-a:http'\n",
        "hosts:\n  lab-a: { agent: 'unix:' }\n",
        "hosts:\n  lab-a: { agent: '[fe80::1%eth0]:7625' }\n",
        "hosts:\n  lab-a: { agent: 'ssh://me@-x' }\n",
        "hosts:\n  lab-a: { agent: 'ssh://-me@lab-a' }\n",
        "hosts:\n  lab-a: { agent: 'ssh://lab-a:ssh' }\n",
        "hosts:\n  lab-a: { agent: 'a:1', program: /opt/farsock }\n",
        "hosts:\n  lab-a: { agent: 'a:1', token_file: a, token_env: A }\n",
        "hosts:\n  lab-a: { agent: 'a:1', token_file: a, tls_cert: b }\n",
        "hosts:\n  lab-a: { agent: 'a:1', tls_key: b }\n",
        "hosts:\n  lab-a: { agent: 'a:1', labels: { '-': x } }\n",
        "hosts:\n  lab-a: { agent: 'a:1', labels: [web] }\n",
        "hosts:\n  lab-a: { agent: 'a:1', groups: web }\n",
        "hosts:\n  lab-a: { agent: 'a:1', groups: ['a b'] }\n",
        "hosts:\n  lab-a: { agent: 'a:1', groups: [lab-b] }\n  lab-b: { agent: 'b:1' }\n",
        "hosts:\n  lab-a: { agent: 'a:1', addresses: { front: 10.0.0.300 } }\n",
        "hosts:\n  lab-a: { agent: 'a:1', addresses: { front: [] } }\n",
        "hosts:\n  lab-a: { agent: 'a:1', addresses: { 'the front': 10.0.0.1 } }\n",
        // As Ansible reads them.
        "all:\n  hosts:\n",
        "all:\n  hosts: { 'a b': }\n",
        "all:\n  children:\n    linux:\n      hosts:\n        clab-web: { ansible_host: '172.20.20.3:x' }\n",
        "all:\n  children:\n    linux:\n      hosts: [clab-web]\n",
    ];
    texts.into_iter().map(Case::inventory).collect()
}
