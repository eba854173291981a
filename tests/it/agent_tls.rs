//! TLS: whoever comes is known by a certificate, and whoever is not let in learns why.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use farsock::agent::{AgentConfig, Listen, OpenServices};
use farsock::client::{AgentClient, ClientError, Credentials, Dialer};
use farsock::model::limits::Limits;
use farsock::pki::IdentityFiles;
use farsock::wire::pb;
use farsock::wire::pb::agent_service_client::AgentServiceClient;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::frames::{CONTINUATION, END_HEADERS, HEADERS, RST_STREAM, RawHttp2, becomes, headers};
use crate::harness::{
    Agent, AgentProcess, Certificates, DAY, QUESTION, farsock, identity, tcp_channel, tls_channel, tls_client, within,
};

const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

/// Why the agent is not reached.
async fn refusal(client: &AgentClient) -> String {
    match within("an answer", client.info()).await {
        Err(ClientError::Unauthenticated { message }) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whom_a_certificate_names_is_served_and_sees_only_what_is_his() {
    let lab = Certificates::new();
    for listen in LOOPBACKS {
        let agent = Agent::start_with(lab.config(listen)).await;
        let address = agent.tcp().to_string();
        let alice = Agent::at(tls_channel(&address, &lab.controller("alice")));
        let bob = Agent::at(tls_channel(&address, &lab.controller("bob")));
        alice.listen("door", listen).await;
        assert_eq!(alice.socket("door").await.socket_id, "door");
        let request = pb::GetSocketRequest { socket_id: "door".into(), ..Default::default() };
        assert_eq!(bob.sockets().get_socket(request.clone()).await.unwrap_err().code(), Code::NotFound);
        // Nor does the user that runs the agent find it: a certificate makes nobody that user.
        assert_eq!(agent.sockets().get_socket(request).await.unwrap_err().code(), Code::NotFound);
        // The client library comes in the same way.
        assert_eq!(
            tls_client(&address, &lab.controller("carol")).info().await.unwrap().version,
            env!("CARGO_PKG_VERSION")
        );
        agent.stop().await;
    }
}

/// Each is told in one line which side refuses what, and why.
#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let (lab, other) = (Certificates::new(), Certificates::new());
    let agent = Agent::start_with(lab.config("127.0.0.1:0")).await;
    let address = agent.tcp().to_string();
    let alice = lab.controller("alice");

    // The agent does not know the client's CA, though the client knows the agent's.
    let stranger = IdentityFiles { ca: alice.ca.clone(), ..other.controller("alice") };
    let line = refusal(&tls_client(&address, &stranger)).await;
    assert_eq!(
        line,
        "the agent at 127.0.0.1 refuses the certificate of this client: it is not signed by the CA that is believed over there"
    );
    // The client does not know the agent's.
    let line = refusal(&tls_client(&address, &other.controller("bob"))).await;
    assert_eq!(
        line,
        "this client refuses the certificate of the agent at 127.0.0.1: it is not signed by the CA that is believed here: give both sides the same ca.pem"
    );
    // A certificate of an agent is none of a controller.
    let line = refusal(&tls_client(&address, &lab.agent_named(&["lab-b"]))).await;
    assert!(
        line.starts_with("the agent at 127.0.0.1 refuses the certificate of this client: it is not one of this side"),
        "{line}"
    );
    // It was good when it was read, and is no longer.
    let brief = identity(&lab.controller_for("brief", Duration::from_secs(2)));
    let endpoint = address.parse().unwrap();
    let late = AgentClient::new(&Dialer::with_tls(&endpoint, &brief).unwrap(), &Credentials::none());
    // X.509 counts whole seconds, the last one included.
    let over = brief.certificate().not_after + Duration::from_secs(1);
    becomes("its end", || async { over < std::time::SystemTime::now() }).await;
    let line = refusal(&late).await;
    assert!(line.contains("refuses the certificate of this client: it has expired"), "{line}");
    // TLS is spoken there, and not here.
    let line = refusal(&AgentClient::new(&Dialer::to(&endpoint), &Credentials::none())).await;
    assert_eq!(line, "the agent at 127.0.0.1 speaks TLS, and a certificate is needed (--tls-cert)");
    // Whoever is let in is none the worse for all of them.
    assert!(tls_client(&address, &alice).info().await.is_ok());
    agent.stop().await;

    // The agent is called by a name that its certificate does not have.
    let config = AgentConfig { tls: Some(lab.agent_named(&["lab-a", "lab-a.example"])), ..lab.config("127.0.0.1:0") };
    let agent = Agent::start_with(config).await;
    let line = refusal(&tls_client(&agent.tcp().to_string(), &alice)).await;
    assert_eq!(
        line,
        "this client refuses the certificate of the agent at 127.0.0.1: it is not for 127.0.0.1, but for lab-a, lab-a.example: call it by one of these, or issue one with that name"
    );
    agent.stop().await;

    // TLS is spoken here, and not there.
    let listen = vec![Listen::Tcp("127.0.0.1:0".parse().unwrap())];
    let plain = Agent::start_with(AgentConfig { listen, no_auth: true, ..AgentConfig::default() }).await;
    let line = refusal(&tls_client(&plain.tcp().to_string(), &alice)).await;
    assert_eq!(line, "the agent at 127.0.0.1 does not speak TLS");
    plain.stop().await;
}

/// A certificate of the CA's that names nobody, or too many, or the owner. `farsock pki` makes none of them.
#[tokio::test]
async fn a_certificate_that_names_no_principal_opens_nothing() {
    let lab = Certificates::new();
    let agent = Agent::start_with(lab.config("127.0.0.1:0")).await;
    let address = agent.tcp().to_string();
    let ca_key = fs::read_to_string(lab.folder.path().join("ca.key")).unwrap();
    let ca = fs::read(lab.folder.path().join("ca.pem")).unwrap();
    let ca = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&ca).unwrap();
    let pkcs8 =
        <rustls::pki_types::PrivateKeyDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(ca_key.as_bytes());
    let issuer = rcgen::Issuer::from_ca_cert_der(&ca, KeyPair::try_from(&pkcs8.unwrap()).unwrap()).unwrap();
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let uri = |name: &str| SanType::URI(name.try_into().unwrap());
    for (names, answer) in [
        (vec![], Err("names no principal")),
        (vec![SanType::IpAddress([10, 0, 0, 1].into())], Err("names no principal")),
        (vec![dns("a.lab"), dns("b.lab")], Err("names several principals")),
        (vec![uri("farsock://controller/a"), uri("farsock://controller/b")], Err("names several principals")),
        (vec![uri("farsock://controller/owner")], Err("`owner`")),
        (vec![dns("owner")], Err("`owner`")),
        (vec![uri("farsock://controller/a/b")], Err("is not the name of a principal")),
        (vec![uri("https://example.com/alice")], Err("is not the name of a principal")),
        (vec![dns("*.lab")], Err("is not the name of a principal")),
        (vec![dns("Station-7.lab.example")], Ok(())),
        (vec![uri("farsock://controller/alice"), dns("station-7.lab"), dns("station-8.lab")], Ok(())),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        // The common name says `rcgen self signed cert`, and nobody cares.
        params.subject_alt_names.clone_from(&names);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let signed = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates({
                let mut roots = rustls::RootCertStore::empty();
                roots.add(ca.clone()).unwrap();
                roots
            })
            .with_client_auth_cert(vec![certificate.der().clone()], pkcs8_of(&key));
        let mut signed = signed.unwrap();
        signed.alpn_protocols = vec![b"h2".to_vec()];
        let channel = crate::harness::tls_channel_with(&address, signed);
        let got = AgentServiceClient::new(channel).get_agent(QUESTION).await;
        match answer {
            Ok(()) => assert!(got.is_ok(), "{names:?}: {got:?}"),
            Err(words) => {
                let status = got.unwrap_err();
                assert_eq!(status.code(), Code::Unauthenticated, "{names:?}: {status:?}");
                assert!(status.message().contains(words), "{names:?}: {status:?}");
            }
        }
    }
    agent.stop().await;
}

fn pkcs8_of(key: &KeyPair) -> rustls::pki_types::PrivateKeyDer<'static> {
    key.serialize_der().try_into().unwrap()
}

/// The token is of no use where certificates are asked for, and nothing is served below TLS 1.3 or beside HTTP/2.
#[tokio::test]
async fn nothing_but_a_certificate_and_http2_over_tls_1_3_comes_in() {
    let lab = Certificates::new();
    let folder = TempDir::new().unwrap();
    let config = AgentConfig { token_file: Some(folder.path().join("token")), ..lab.config("127.0.0.1:0") };
    let agent = Agent::start_with(config).await;
    assert!(!folder.path().join("token").exists(), "a token that opens nothing is not made");
    let address = agent.tcp().to_string();
    assert!(AgentServiceClient::new(tcp_channel(&address)).get_agent(QUESTION).await.is_err());

    let alice = lab.controller("alice");
    let script = "import socket, ssl, sys
host, port, ca, cert, key, version, alpn = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if cert: context.load_cert_chain(cert, key)
context.maximum_version = getattr(ssl.TLSVersion, version)
if alpn: context.set_alpn_protocols([alpn])
try:
    with socket.create_connection((host, int(port)), 20) as raw, context.wrap_socket(raw, server_hostname=host) as tls:
        print(tls.version(), len(tls.recv(9)))
except (ssl.SSLError, ConnectionError) as problem:
    print(type(problem).__name__, problem)
";
    let try_with = |certificate: bool, version: &'static str, alpn: &'static str| {
        let shown =
            |path: &std::path::Path| if certificate { path.to_str().unwrap().to_owned() } else { String::new() };
        let mut python = tokio::process::Command::new("python3");
        let (host, port) = address.rsplit_once(':').unwrap();
        python.args(["-c", script, host, port, alice.ca.to_str().unwrap()]);
        python.args([&shown(&alice.certificate), &shown(&alice.key)]).args([version, alpn]);
        async move { crate::harness::run(python).await.out.trim().to_owned() }
    };
    assert_eq!(try_with(true, "TLSv1_3", "h2").await, "TLSv1.3 9", "OpenSSL comes in, too");
    let old = try_with(true, "TLSv1_2", "h2").await;
    assert!(old.starts_with("SSLError") && old.contains("protocol version"), "{old}");
    let other = try_with(true, "TLSv1_3", "http/1.1").await;
    assert!(other.contains("no application protocol"), "{other}");
    let nobody = try_with(false, "TLSv1_3", "h2").await;
    assert!(nobody.contains("certificate required"), "{nobody}");
    let silent = try_with(true, "TLSv1_3", "").await;
    assert!(!silent.starts_with("TLSv1.3 9"), "{silent}");
    agent.stop().await;
}

/// The time for a login covers the handshake, HTTP/2's preface and the first request.
#[tokio::test]
async fn who_does_not_log_in_in_time_is_sent_away_at_every_stage() {
    let lab = Certificates::new();
    let config = AgentConfig { login_timeout: Duration::from_millis(300), ..lab.config("127.0.0.1:0") };
    let agent = Agent::start_with(config).await;
    let address = agent.tcp().to_string();
    let alice = lab.controller("alice");
    // He was there before, and stays.
    let honest = Agent::at(tls_channel(&address, &alice));
    honest.listen("door", "127.0.0.1:0").await;

    // Not a byte; and the beginning of a handshake: the head of a record of 512 bytes that do not come.
    RawHttp2::silent(&address).await.ending().await;
    let mut half = TcpStream::connect(&address).await.unwrap();
    half.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
    within("the end", half.read_to_end(&mut Vec::new())).await.ok();
    // A handshake, and not a byte more; and half of the preface.
    for said in [&b""[..], b"PRI * HTTP/2"] {
        let mut stream = shaken(&address, &alice).await;
        stream.write_all(said).await.unwrap();
        within("the end", stream.read_to_end(&mut Vec::new())).await.ok();
    }
    assert_eq!(honest.socket("door").await.socket_id, "door");
    agent.stop().await;
}

/// A connection on which TLS has been agreed, and nothing said yet.
async fn shaken(address: &str, files: &IdentityFiles) -> TlsStream<TcpStream> {
    let connector = TlsConnector::from(Arc::new(identity(files).client_config().unwrap()));
    let stream = TcpStream::connect(address).await.unwrap();
    connector.connect("127.0.0.1".to_owned().try_into().unwrap(), stream).await.unwrap()
}

/// Somebody with a certificate misbehaves: his connection is ended, and hers goes on. All of the attacks stand in `agent_limits.rs`; that TLS
/// lies in between changes nothing.
#[tokio::test]
async fn a_principal_that_attacks_is_cut_off_and_no_other_one_notices() {
    let lab = Certificates::new();
    let agent = Agent::start_with(lab.config("127.0.0.1:0")).await;
    let address = agent.tcp().to_string();
    let alice = Agent::at(tls_channel(&address, &lab.controller("alice")));
    alice.listen("door", "127.0.0.1:0").await;
    let mallory = lab.controller("mallory");
    let block = headers("/farsock.v1.AgentService/GetAgent", &[]);
    let more = headers("/farsock.v1.AgentService/GetAgent", &[("x", &"x".repeat(8000))]);

    let mut resets = RawHttp2::greeted_over(shaken(&address, &mallory).await).await;
    let cancel = 8_u32.to_be_bytes();
    resets
        .flood(20_000, async |raw, round| {
            let stream = round * 2 + 1;
            raw.frame(HEADERS, END_HEADERS, stream, &block).await && raw.frame(RST_STREAM, 0, stream, &cancel).await
        })
        .await;
    assert_eq!(resets.ending().await.goaway.expect("it says why"), (11, "too_many_resets".to_owned()));
    let mut endless = RawHttp2::greeted_over(shaken(&address, &mallory).await).await;
    endless
        .flood(50_000, async |raw, round| match round {
            0 => raw.frame(HEADERS, 0, 1, &block).await,
            _ => raw.frame(CONTINUATION, 0, 1, &more).await,
        })
        .await;
    assert_ne!(endless.ending().await.goaway.expect("it says why").0, 0);

    assert_eq!(alice.socket("door").await.socket_id, "door");
    agent.stop().await;
}

/// Connections that have not logged in have few places, in all and for each source; the rest is turned away at once.
#[tokio::test]
async fn handshakes_are_bounded_and_those_who_are_in_do_not_count() {
    let lab = Certificates::new();
    let limits = Limits { logins: 5, logins_per_source: 3, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, login_timeout: DAY, ..lab.config("127.0.0.1:0") }).await;
    let address = agent.tcp();
    let alice = lab.controller("alice");
    // As many as there may be, each logged in before the next one comes.
    let mut inside = Vec::new();
    for _ in 0..8 {
        let client = tls_client(&address.to_string(), &alice);
        client.info().await.unwrap();
        inside.push(client);
    }
    // The source of these is another one: loopback has many addresses.
    let from = |source: &'static str| async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        socket.connect(address).await.unwrap()
    };
    let ended = |mut stream: TcpStream| async move {
        within("the end", stream.read(&mut [0])).await.is_ok_and(|size| size == 0)
    };
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(from("127.0.0.2").await);
    }
    assert!(ended(from("127.0.0.2").await).await, "a fourth one of that source");
    waiting.push(from("127.0.0.3").await);
    waiting.push(from("127.0.0.4").await);
    assert!(ended(from("127.0.0.5").await).await, "a sixth one of all");
    let told = agent.agent().get_agent(QUESTION).await.unwrap().into_inner().agent.unwrap();
    let usage = told.usage.into_iter().filter(|usage| usage.name.starts_with("logins"));
    let usage: Vec<_> = usage.map(|usage| (usage.name, usage.limit, usage.used, usage.refused)).collect();
    assert_eq!(usage, [("logins".to_owned(), 5, 5, 1), ("logins_per_source".to_owned(), 3, 3, 1)]);
    for client in &inside {
        client.info().await.unwrap();
    }
    waiting.clear();
    becomes("room", || async { tls_client(&address.to_string(), &alice).info().await.is_ok() }).await;
    agent.stop().await;
}

#[tokio::test]
async fn one_principal_does_not_take_the_connections_of_others() {
    let lab = Certificates::new();
    let limits = Limits { connections_per_principal: 2, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..lab.config("127.0.0.1:0") }).await;
    let address = agent.tcp().to_string();
    let ask = async |files: &IdentityFiles| {
        let mut client = AgentServiceClient::new(tls_channel(&address, files));
        client.get_agent(QUESTION).await.map(|_| client)
    };
    let (alice, bob) = (lab.controller("alice"), lab.controller("bob"));
    let (first, _second) = (ask(&alice).await.unwrap(), ask(&alice).await.unwrap());
    let status = ask(&alice).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("limits.connections_per_principal of this agent is 2"), "{status:?}");
    ask(&bob).await.unwrap();
    let told = agent.agent().get_agent(QUESTION).await.unwrap().into_inner().agent.unwrap();
    let usage = told.usage.iter().find(|usage| usage.name == "connections_per_principal").unwrap();
    assert_eq!((usage.limit, usage.used, usage.refused), (2, 2, 1));
    drop(first);
    becomes("room for another one", || async { ask(&alice).await.is_ok() }).await;
    agent.stop().await;
}

/// As many as there may be are together, and each of them is within his own limit.
#[tokio::test]
async fn the_owner_comes_in_when_others_have_every_connection() {
    let (lab, folder) = (Certificates::new(), TempDir::new().unwrap());
    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", "127.0.0.1:0", "--tls-cert"]).arg(lab.agent().certificate);
    command.arg("--listen").arg(format!("unix:{}", folder.path().join("agent.sock").display()));
    command.args(["--limit", "connections=4,connections_per_principal=2,reserved_connections=1"]);
    let agent = AgentProcess::spawn(command, folder).await;
    let address = agent.tcp();
    let ask = async |files: &IdentityFiles| {
        let mut client = AgentServiceClient::new(tls_channel(&address, files));
        client.get_agent(QUESTION).await.map(|_| client)
    };
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| lab.controller(name));
    let mut others = Vec::new();
    for files in [&alice, &alice, &bob, &bob] {
        others.push(ask(files).await.unwrap());
    }
    let status = ask(&carol).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("limits.connections of this agent is 4"), "{status:?}");

    let owner = agent.agent();
    let usage = async |name: &str| {
        let told = owner.agent().get_agent(QUESTION).await.unwrap().into_inner().agent.unwrap();
        let usage = told.usage.into_iter().find(|usage| usage.name == name).unwrap();
        (usage.limit, usage.used, usage.refused)
    };
    assert_eq!((usage("connections").await, usage("reserved_connections").await), ((4, 4, 1), (1, 1, 0)));
    // His places have an end, too.
    agent.agent().agent().get_agent(QUESTION).await.unwrap_err();
    assert!(usage("reserved_connections").await.2 >= 1);
    // His own place is none that another one could have.
    others.pop();
    becomes("room for one of the others", || async { ask(&carol).await.is_ok() }).await;
    drop(others);
    agent.stop().await;
}

#[tokio::test]
async fn what_was_opened_answers_without_a_certificate_and_nothing_else_does() {
    let lab = Certificates::new();
    let open = OpenServices { health: true, reflection: false };
    let agent = Agent::start_with(AgentConfig { open, ..lab.config("127.0.0.1:0") }).await;
    let address = agent.tcp().to_string();
    let mut roots = rustls::RootCertStore::empty();
    let ca = fs::read(lab.folder.path().join("ca.pem")).unwrap();
    roots
        .add(<rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let nobody = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut nobody = nobody.with_no_client_auth();
    nobody.alpn_protocols = vec![b"h2".to_vec()];
    let channel = crate::harness::tls_channel_with(&address, nobody);
    let mut health = HealthClient::new(channel.clone());
    assert!(health.check(HealthCheckRequest { service: String::new() }).await.is_ok());
    let status = AgentServiceClient::new(channel).get_agent(QUESTION).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("a certificate is needed here"), "{status:?}");
    assert!(tls_client(&address, &lab.controller("alice")).info().await.is_ok());
    agent.stop().await;
}
