//! TLS: who gets in, who does not and is told why, and certificates that change under streams.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use bowstring::client::{Client, ClientOptions, ConsumerOptions, Error, ProducerOptions, TlsOptions, TlsProblem};
use bowstring::engine::{Code, Retry};
use bowstring::server::{AuthConfig, Permissions, Server, ServerConfig, StartError, TlsConfig, TlsError};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client_support::{PATIENCE, create, number, numbered, partitions, server, server_with, subscribed};
use super::server_support::{stop, until};
use super::tls_support::{Authority, Signed, options};

async fn tls_server(tls: TlsConfig) -> Server {
    server_with(ServerConfig { tls: Some(tls), unix: bowstring::server::UnixSocket::Off, ..ServerConfig::default() }).await
}

/// Appends a batch and reads it.
async fn works(client: &Client, stream: &str) {
    let mut producer = client.producer(stream, ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(7, 3), None, Bytes::new()).await.expect("appends");
    producer.flush().await.expect("is acked");
    client.complete_stream(stream).await.expect("is there");
    let mut consumer = client.consumer(stream, ConsumerOptions::default()).await.expect("is there");
    let got = tokio::time::timeout(PATIENCE, consumer.next(None)).await.expect("in time").expect("reads").expect("one");
    assert_eq!(number(&got), 7);
}

/// A new reader is shown with the name of its certificate.
async fn reader_is_known_as(client: &Client, name: &str) {
    create(client, name, partitions(1)).await;
    let _consumer = subscribed(client, name, name).await;
    until("its reader is known by name", async || {
        let subscriptions = client.describe_stream(name).await.expect("is there").subscriptions;
        let mut consumers = subscriptions.iter().flat_map(|one| &one.consumers);
        consumers.any(|consumer| consumer.peer.ends_with(&format!("({name})")))
    })
    .await;
}

async fn problem(url: &str, tls: TlsOptions) -> TlsProblem {
    // Whoever tries again instead of saying what is wrong takes this long.
    let options = ClientOptions { connect_timeout: PATIENCE * 10, retry_deadline: PATIENCE * 10, ..options(tls) };
    let connected = tokio::time::timeout(PATIENCE, async {
        let client = Client::connect(url, options).await?;
        client.stats(None).await.map(|_| ())
    });
    let error = connected.await.expect("fails at once").expect_err("is refused");
    assert_eq!((error.code(), error.retry()), (Code::Unavailable, Retry::Never), "{error}");
    assert!(error.to_string().contains(url), "{error}");
    match error {
        Error::Tls { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_trusts_the_ca_appends_and_reads() {
    let authority = Authority::new();
    let server = tls_server(authority.server().config(None)).await;
    assert!(server.url().starts_with("grpc+tls://127.0.0.1:"), "{}", server.url());
    let client = Client::connect(&server.url(), options(authority.trusted())).await.expect("trusts it");
    works(&client, "s").await;
    let by_name = server.url().replace("127.0.0.1", "localhost");
    works(&Client::connect(&by_name, options(authority.trusted())).await.expect("has that name too"), "t").await;
    assert_eq!(server.coordinator().connections().open_unix(), 0);
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificates_name_is_a_principal_with_the_permissions_of_that_name() {
    let authority = Authority::new();
    let certificates = [("spark".to_owned(), Permissions::parse(["append:s", "read:s"]).expect("are some"))].into();
    let auth = AuthConfig { certificates, ..AuthConfig::default() };
    let tls = Some(authority.server().config(Some(&authority.ca())));
    let server = server_with(ServerConfig { tls, auth, unix: bowstring::server::UnixSocket::Off, ..ServerConfig::default() }).await;
    let as_client = async |name: &str| {
        let own = authority.client(name);
        Client::connect(&server.url(), options(authority.trusted_by(&own))).await.expect("its CA is trusted")
    };
    let spark = as_client("spark").await;
    works(&spark, "s").await;
    let code = async |client: &Client, stream: &str| client.complete_stream(stream).await.expect_err("is refused").code();
    assert_eq!(code(&spark, "t").await, Code::PermissionDenied);
    assert_eq!(code(&as_client("stranger").await, "s").await, Code::Unauthenticated);
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_goes_by_the_unix_socket_of_a_coordinator_with_tls_too() {
    let authority = Authority::new();
    let server = server_with(ServerConfig { tls: Some(authority.server().config(None)), ..ServerConfig::default() }).await;
    let client =
        Client::connect(&server.url(), ClientOptions { tls: authority.trusted(), ..ClientOptions::default() }).await.expect("trusts it");
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(7, 3), None, Bytes::new()).await.expect("appends");
    producer.flush().await.expect("is acked");
    assert_eq!(server.coordinator().connections().open_unix(), 1);
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_have_tls_is_told_at_once_what_to_do() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = tls_server(authority.server().config(None)).await;
    let url = server.url();
    let plain_url = url.replace("grpc+tls", "grpc");
    assert_eq!(problem(&plain_url, TlsOptions::default()).await, TlsProblem::Required);
    let trusted = stranger.ca().display().to_string();
    assert_eq!(problem(&url, stranger.trusted()).await, TlsProblem::UnknownCa { trusted });
    assert!(matches!(problem(&url, TlsOptions::default()).await, TlsProblem::UnknownCa { .. } | TlsProblem::Files { .. }));
    let other_name = TlsOptions { server_name: Some("coordinator".into()), ..authority.trusted() };
    let wrong = problem(&url, other_name).await;
    assert!(matches!(&wrong, TlsProblem::WrongHost { name, others } if name == "coordinator" && others.contains("localhost")), "{wrong}");
    let unusable = Client::connect(&plain_url, options(authority.trusted())).await.expect_err("options without use");
    assert_eq!(unusable.code(), Code::InvalidArgument, "{unusable}");
    assert!(server.coordinator().connections().refused(bowstring::server::NotLetIn::NotTls) > 0);
    assert!(server.coordinator().connections().refused(bowstring::server::NotLetIn::Handshake) > 0);
    stop(server).await;
    let plain = self::server().await;
    let tls_url = format!("grpc+tls://{}", plain.listen_addr());
    assert_eq!(problem(&tls_url, authority.trusted()).await, TlsProblem::Plain);
    stop(plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_out_of_their_time_are_refused_with_the_reason() {
    let authority = Authority::new();
    let dated = |name: &str, from: i32, to: i32| {
        authority.sign(name, &["127.0.0.1"], |params| {
            (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
        })
    };
    for (signed, expected) in [(dated("old", 2000, 2001), TlsProblem::Expired), (dated("new", 3000, 3001), TlsProblem::NotYetValid)] {
        let server = tls_server(signed.config(None)).await;
        assert_eq!(problem(&server.url(), authority.trusted()).await, expected);
        stop(server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_client_ca_only_clients_that_it_has_signed_get_in_and_are_known_by_name() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = tls_server(authority.server().config(Some(&authority.ca()))).await;
    assert_eq!(problem(&server.url(), authority.trusted()).await, TlsProblem::CertificateWanted);
    let foreign = TlsOptions { ca: Some(authority.ca()), ..stranger.trusted_by(&stranger.client("etl")) };
    let refused = problem(&server.url(), foreign).await;
    assert!(matches!(refused, TlsProblem::CertificateRefused { .. }), "{refused}");
    let ended = authority.sign("ended", &[], |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let refused = problem(&server.url(), authority.trusted_by(&ended)).await;
    assert!(matches!(refused, TlsProblem::CertificateRefused { .. }), "{refused}");
    let client = Client::connect(&server.url(), options(authority.trusted_by(&authority.client("etl")))).await.expect("is signed");
    works(&client, "s").await;
    reader_is_known_as(&client, "etl").await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_named_before_anything_is_served_and_nothing_of_a_key_is_shown() {
    let authority = Authority::new();
    let (good, other) = (authority.server(), authority.client("other"));
    let secret = "-----BEGIN PRIVATE KEYc2VjcmV0LWtleQ==";
    let broken = Signed { key: authority.ca().with_file_name("broken.key"), ..good.clone() };
    fs::write(&broken.key, secret).expect("writes");
    let config = |signed: Signed| signed.config(None);
    let missing = authority.ca().with_file_name("nothing");
    let refused = async |tls: TlsConfig| {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let error =
            Server::start(ServerConfig { listen, http: None, tls: Some(tls), ..ServerConfig::default() }).await.expect_err("no TLS");
        assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
        assert!(!format!("{error:?}").contains("c2VjcmV0"));
        match error {
            StartError::Tls(error) => error,
            other => panic!("{other}"),
        }
    };
    assert!(matches!(refused(config(Signed { cert: missing.clone(), ..good.clone() })).await, TlsError::Read { setting: "tls.cert", .. }));
    assert!(matches!(refused(config(Signed { cert: good.key.clone(), ..good.clone() })).await, TlsError::NoCertificate { .. }));
    assert!(matches!(refused(config(broken)).await, TlsError::NoKey { .. }));
    assert!(matches!(refused(config(Signed { key: other.key, ..good.clone() })).await, TlsError::Mismatch { .. }));
    assert!(matches!(refused(good.config(Some(&good.key))).await, TlsError::NoCertificate { setting: "tls.client_ca", .. }));
    let huge = authority.ca().with_file_name("huge");
    fs::write(&huge, vec![b'x'; (4 << 20) + 1]).expect("writes");
    assert!(matches!(refused(config(Signed { cert: huge, ..good.clone() })).await, TlsError::TooLarge { .. }));
    for tls in [
        TlsOptions { ca: Some(missing), ..TlsOptions::default() },
        TlsOptions { cert: Some(good.cert.clone()), ..TlsOptions::default() },
        TlsOptions { key: Some(good.key.clone()), ..TlsOptions::default() },
    ] {
        let refused = problem("grpc+tls://127.0.0.1:1", tls).await;
        assert!(matches!(refused, TlsProblem::Files { .. }), "{refused}");
    }
}

/// The serial number of the certificate that a new connection is shown.
async fn shown(server: &Server, authority: &Authority) -> Vec<u8> {
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.ca()).expect("PEM")).expect("a CA");
    let builder = ClientConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().expect("known").with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(server.listen_addr()).await.expect("listens");
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let tls = connector.connect(ServerName::try_from("localhost").expect("a name"), tcp).await.expect("trusted");
    tls.get_ref().1.peer_certificates().expect("one")[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_under_streams_and_bad_ones_change_nothing() {
    let authority = Authority::new();
    let signed = authority.server();
    let server = tls_server(signed.config(None)).await;
    let client = Client::connect(&server.url(), options(authority.trusted())).await.expect("trusts it");
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(0, 1), None, Bytes::new()).await.expect("appends");
    producer.flush().await.expect("is acked");
    let counters = server.coordinator().connections().clone();
    let open = counters.open();
    let first = shown(&server, &authority).await;

    fs::write(&signed.cert, "no certificate").expect("writes");
    server.reload_tls();
    server.reload_tls();
    assert_eq!(counters.reloads(), (0, 1), "the same bad file is said once");
    assert_eq!(shown(&server, &authority).await, first);

    signed.replace_by(&authority.sign("renewed", &["127.0.0.1", "localhost"], |_| ()));
    server.reload_tls();
    assert_eq!(counters.reloads(), (1, 1));
    assert_ne!(shown(&server, &authority).await, first);
    producer.append(&numbered(1, 1), None, Bytes::new()).await.expect("goes on by the connection that it has");
    producer.flush().await.expect("is acked");
    until("only the old connections are open", async || counters.open() == open).await;

    // Nobody has to ask for it.
    signed.replace_by(&authority.sign("renewed again", &["127.0.0.1", "localhost"], |_| ()));
    until("it is noticed", async || counters.reloads() == (2, 1)).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_files_are_read_again_for_each_connection() {
    let authority = Authority::new();
    let server = tls_server(authority.server().config(Some(&authority.ca()))).await;
    let own = authority.client("before");
    let client = Client::connect(&server.url(), options(authority.trusted_by(&own))).await.expect("is signed");
    works(&client, "s").await;
    own.replace_by(&authority.client("after"));
    reader_is_known_as(&client, "after").await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_of_tls_and_other_protocols_are_refused() {
    let authority = Authority::new();
    let server = tls_server(authority.server().config(None)).await;
    // A hello of TLS 1.1 with one cipher suite.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut tcp = TcpStream::connect(server.listen_addr()).await.expect("listens");
    tcp.write_all(&hello).await.expect("sends");
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.expect("closes").expect("in order");
    assert_eq!((answer[0], answer.len(), answer[5]), (0x15, 7, 2), "a fatal alert and nothing else: {answer:?}");
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_port_has_the_same_tls_and_shows_only_its_health_to_those_without_a_certificate() {
    let authority = Authority::new();
    // What the client of this test wants; another test may have done it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let tls = authority.server().config(Some(&authority.ca()));
    let server =
        Server::start(ServerConfig { listen: free, http: Some(free), tls: Some(tls), ..ServerConfig::default() }).await.expect("starts");
    let url = server.http_url().expect("is on");
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let answer = async |own: Option<Signed>, path: &str| {
        let ca = reqwest::Certificate::from_pem(&fs::read(authority.ca()).expect("reads")).expect("PEM");
        let builder = reqwest::Client::builder().tls_certs_only([ca]).no_proxy();
        let builder = match own {
            None => builder,
            Some(own) => {
                let both = [fs::read(own.key).expect("reads"), fs::read(own.cert).expect("reads")].concat();
                builder.identity(reqwest::Identity::from_pem(&both).expect("PEM"))
            }
        };
        let sent = builder.build().expect("a client").get(format!("{url}{path}")).timeout(Duration::from_secs(20)).send();
        let answer = sent.await.expect("answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let status = async |own: Option<Signed>, path: &str| answer(own, path).await.0;
    assert_eq!(status(None, "/healthz").await, 200);
    assert_eq!(status(None, "/readyz").await, 200);
    assert_eq!(status(None, "/metrics").await, 403);
    let (scraped, metrics) = answer(Some(authority.client("scraper")), "/metrics").await;
    assert_eq!(scraped, 200);
    for shown in ["bowstring_tls_certificate_not_after_seconds ", "bowstring_tls_reloads_total{result=\"used\"} 0"] {
        assert!(metrics.contains(shown), "{shown} is not in {metrics}");
    }
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let end = server.coordinator().connections().certificate_end().expect("there is TLS");
    assert!(u64::try_from(end).expect("after 1970") > now, "{end}");
    let mut plain = TcpStream::connect(server.http_addr().expect("is on")).await.expect("listens");
    plain.write_all(b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("sends");
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, plain.read_to_string(&mut answer)).await.expect("closes").expect("text");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://"), "{answer}");
    stop(server).await;
}
