//! The connection pool: TLS with the host's certificates, proxies, redirects.

use std::sync::Arc;
use std::time::Duration;

use reqwest::blocking::Client;
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{NoProxy, Proxy};
use rustls::{ClientConfig, RootCertStore};

use super::options::ClientOptions;
use super::url::HttpUrl;
use crate::error::{Error, ErrorKind, Result};

/// Redirects that are followed.
const REDIRECTS: usize = 5;

/// Longest time to establish a connection.
const CONNECT: Duration = Duration::from_secs(20);

pub(crate) fn build(
    address: &HttpUrl,
    access: &ClientOptions,
    redirects: Policy,
) -> Result<Client> {
    let failed = |error: reqwest::Error| {
        Error::new(ErrorKind::Io, format!("{address} cannot be reached"))
            .with_source(error.without_url())
    };
    let mut builder = Client::builder()
        .user_agent(concat!("imgbuild/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls(address, needs_tls(address, access))?)
        .redirect(redirects)
        .connect_timeout(CONNECT.min(access.patience))
        // Of each wait for bytes, not of the whole transfer.
        .timeout(access.patience)
        .no_proxy();
    // The first that fits is taken.
    let proxies = &access.proxies;
    let kinds = [
        proxies.http.as_deref().map(Proxy::http),
        proxies.https.as_deref().map(Proxy::https),
        proxies.all.as_deref().map(Proxy::all),
    ];
    for proxy in kinds.into_iter().flatten() {
        let proxy = proxy.map_err(|_| {
            Error::new(ErrorKind::Invalid, "the address of the proxy is no URL")
                .with_hint("for example http_proxy=http://proxy.example:3128")
        })?;
        let direct = proxies.none_for.as_deref().and_then(NoProxy::from_string);
        builder = builder.proxy(proxy.no_proxy(direct));
    }
    builder.build().map_err(failed)
}

/// Whether anybody on the way is spoken to by TLS. A redirect does not leave the scheme.
fn needs_tls(address: &HttpUrl, access: &ClientOptions) -> bool {
    let proxies = &access.proxies;
    let mut proxies = [&proxies.http, &proxies.https, &proxies.all]
        .into_iter()
        .flatten();
    address.is_https() || proxies.any(|proxy| !proxy.starts_with("http://"))
}

/// TLS 1.2 or 1.3 with the certificates that the host trusts: `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`, else where distributions keep them. They are some hundred files, and are left where
/// they are if nothing of it is needed.
fn tls(address: &HttpUrl, is_needed: bool) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let loaded = if is_needed {
        rustls_native_certs::load_native_certs()
    } else {
        rustls_native_certs::CertificateResult::default()
    };
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() && address.is_https() {
        let mut error = Error::new(
            ErrorKind::Io,
            format!("{address} cannot be verified: this machine trusts no certificate"),
        )
        .with_hint("install ca-certificates, or name a bundle with SSL_CERT_FILE");
        if let Some(why) = loaded.errors.into_iter().next() {
            error = error.with_source(why);
        }
        return Err(error);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config
        .map_err(|error| Error::new(ErrorKind::Io, "TLS cannot be prepared").with_source(error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Follows a redirect that stays with the scheme. Its own texts name nothing but
/// the scheme: an address that a server made up may have anything in it.
pub(crate) fn redirect(attempt: Attempt<'_>) -> Action {
    let previous = attempt.previous();
    let first = previous.first().map_or("", |url| url.scheme());
    if previous.contains(attempt.url()) {
        return attempt.error("the server redirects in a circle");
    }
    if previous.len() > REDIRECTS {
        return attempt.error("the server redirects too often");
    }
    if attempt.url().scheme() != first {
        let scheme: String = attempt.url().scheme().chars().take(16).collect();
        let why = format!("the server redirects from {first} to {scheme}");
        return attempt.error(why);
    }
    attempt.follow()
}
