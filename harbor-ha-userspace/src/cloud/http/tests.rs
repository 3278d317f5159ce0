//! TLS, to a server whose certificate was made for the test.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::tests::PATIENT;
use super::*;

/// Answers one request after each handshake that succeeds; with its certificate.
async fn server() -> (Endpoint, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let certificate = made.cert.der().clone();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            while let Ok(byte) = stream.read_u8().await {
                request.push(byte);
                if request.ends_with(b"\r\n\r\n") {
                    break;
                }
            }
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await;
            let _gone = stream.shutdown().await;
        }
    });
    (Endpoint { tls: true, host: "localhost".to_owned(), port }, certificate)
}

#[tokio::test]
async fn a_certificate_that_is_trusted_is_accepted_and_another_one_refused() {
    let (endpoint, certificate) = server().await;
    let address = base(&endpoint);
    assert!(address.starts_with("https://localhost:"));

    let stranger = client(PATIENT, PATIENT).unwrap().get(&address).send().await.unwrap_err();
    let told = words(&stranger);
    assert!(told.contains("no connection") && told.contains("UnknownIssuer"), "{told}");

    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let friend = trusting(roots.clone(), PATIENT, PATIENT).unwrap();
    let answer = friend.get(&address).send().await.unwrap();
    assert_eq!(body(answer, 100).await.unwrap().as_slice(), b"{}");

    // The name counts too.
    let by_address = base(&Endpoint { host: "127.0.0.1".to_owned(), ..endpoint });
    let other_name = words(&friend.get(&by_address).send().await.unwrap_err());
    assert!(other_name.contains("no connection"), "{other_name}");
}

#[test]
fn a_port_is_told_where_it_is_not_the_usual_one() {
    let endpoint = |tls, port| Endpoint { tls, host: "Vpc.Example".to_owned(), port };
    assert_eq!(base(&endpoint(true, 443)), "https://vpc.example");
    assert_eq!(base(&endpoint(true, 80)), "https://vpc.example:80");
    assert_eq!(base(&endpoint(false, 80)), "http://vpc.example");
    assert_eq!(authority(&endpoint(false, 443)), "vpc.example:443");
}
