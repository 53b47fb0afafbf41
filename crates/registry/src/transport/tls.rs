//! The one place that decides whom TLS trusts and which protocol is spoken over it.

use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::ClientConfig;

/// Returns the TLS settings: the certificate authorities of the web, no client certificate.
pub(super) fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_webpki_roots()
        .with_no_client_auth();
    Ok(config)
}

/// Wraps a connector in TLS, and offers HTTP/1.1 only.
///
/// Blobs are the traffic that counts. With HTTP/2 they would share one TCP connection and its flow-control window, where
/// several connections fill a long line better and need no copy out of frames. Documents are too few to gain from the
/// other.
pub(super) fn wrap<C>(config: ClientConfig, connector: C) -> hyper_rustls::HttpsConnector<C> {
    hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}
