//! HTTP for this room: a client that trusts this host's certificates, and answers that end.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::config::settings::Endpoint;

/// A client of its own limits. It follows no redirection, as the signature is for one host, and uses no proxy: the
/// endpoints are inside the VPC, and instance metadata refuses what was forwarded.
///
/// # Errors
/// In words: the TLS library refuses its own set-up.
pub(super) fn client(connect: Duration, whole: Duration) -> Result<Client, String> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is not trusted; a handshake that would have needed it says so.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    trusting(roots, connect, whole)
}

fn trusting(roots: RootCertStore, connect: Duration, whole: Duration) -> Result<Client, String> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(connect)
        .timeout(whole)
        .user_agent(concat!("harbor-ha/", env!("CARGO_PKG_VERSION")));
    client.build().map_err(|error| words(&error))
}

/// The whole body, which may hold a key; refused beyond `most` bytes. The client's limit of time holds.
///
/// # Errors
/// In words: it breaks off, is late, or too long.
pub(super) async fn body(mut response: Response, most: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|error| words(&error))? {
        if body.len() + chunk.len() > most {
            return Err(format!("it is longer than {most} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error and what caused it, without the address: whoever shows it says where.
pub(super) fn words(error: &reqwest::Error) -> String {
    let mut text = match error {
        error if error.is_connect() && error.is_timeout() => "no connection in time".to_owned(),
        error if error.is_timeout() => "not answered in time".to_owned(),
        error if error.is_connect() => "no connection".to_owned(),
        error if error.is_body() || error.is_decode() => "the answer breaks off".to_owned(),
        _ => "the exchange failed".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    let mut last = String::new();
    while let Some(error) = cause {
        last = error.to_string();
        cause = error.source();
    }
    if !last.is_empty() {
        text = format!("{text} ({last})");
    }
    text
}

/// Host, and the port where it is not the scheme's own: what `host` says and what is signed.
pub(super) fn authority(endpoint: &Endpoint) -> String {
    // In small letters, as the library will write it: what is signed must be what is sent.
    let host = endpoint.host.to_ascii_lowercase();
    match (endpoint.tls, endpoint.port) {
        (true, 443) | (false, 80) => host,
        (_, port) => format!("{host}:{port}"),
    }
}

/// `https://host:port`.
pub(super) fn base(endpoint: &Endpoint) -> String {
    format!("{}://{}", if endpoint.tls { "https" } else { "http" }, authority(endpoint))
}

#[cfg(test)]
mod tests;
