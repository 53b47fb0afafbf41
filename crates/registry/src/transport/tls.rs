//! The one place that decides whom TLS trusts, how the client is known, and which protocol is spoken over it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ResolvesClientCert};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::document::unreadable;
use crate::{ClientCertificate, ConfigError, Roots, TlsSettings};

/// The certificate authorities that are trusted everywhere; read when TLS is first spoken.
#[derive(Debug)]
pub(super) struct Authorities {
    choice: Roots,
    store: OnceLock<Arc<RootCertStore>>,
}

impl Authorities {
    pub(super) fn new(choice: Roots) -> Self {
        Self {
            choice,
            store: OnceLock::new(),
        }
    }

    fn store(&self) -> &Arc<RootCertStore> {
        self.store.get_or_init(|| Arc::new(roots(self.choice)))
    }
}

fn roots(choice: Roots) -> RootCertStore {
    if choice == Roots::BuiltIn {
        return trusted(Vec::new());
    }
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "some certificate authorities of the system cannot be read");
    }
    trusted(found.certs)
}

/// Returns what was found, or the built-in authorities if that is nothing.
fn trusted(found: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    let (added, ignored) = store.add_parsable_certificates(found);
    tracing::debug!(added, ignored, "read the certificate authorities of the system");
    if store.is_empty() {
        tracing::debug!("there are none, so the built-in ones are trusted");
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}

/// Returns the TLS settings for a server, with all files read. This blocks.
pub(super) fn config(settings: &TlsSettings, authorities: &Authorities) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Tls {
            source: Arc::new(error),
        })?;
    let builder = if settings.skip_verify {
        let verifier = AnyCertificate(provider.signature_verification_algorithms);
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    } else if settings.ca.is_empty() {
        builder.with_root_certificates(Arc::clone(authorities.store()))
    } else {
        let mut store = RootCertStore::clone(authorities.store());
        for path in &settings.ca {
            add_authorities(&mut store, path)?;
        }
        builder.with_root_certificates(store)
    };
    if settings.client.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let keys: Result<Vec<_>, _> = settings
        .client
        .iter()
        .map(|client| certified_key(client, &provider).map(Arc::new))
        .collect();
    Ok(builder.with_client_cert_resolver(Arc::new(FirstThatFits(keys?))))
}

/// Returns the settings for connections that speak no TLS.
pub(super) fn none() -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Tls {
            source: Arc::new(error),
        })?;
    Ok(builder
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
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

fn add_authorities(store: &mut RootCertStore, path: &Path) -> Result<(), ConfigError> {
    let certificates = certificates(path)?;
    if certificates.is_empty() {
        return Err(wrong(path, "it holds no certificate in PEM form"));
    }
    for certificate in certificates {
        store
            .add(certificate)
            .map_err(|error| wrong(path, &format!("a certificate in it cannot be trusted: {error}")))?;
    }
    Ok(())
}

fn certified_key(client: &ClientCertificate, provider: &CryptoProvider) -> Result<CertifiedKey, ConfigError> {
    let path = &client.certificate;
    let chain = certificates(path)?;
    if chain.is_empty() {
        return Err(wrong(path, "it holds no certificate in PEM form"));
    }
    let key_path = client.key.as_ref().unwrap_or(path);
    // The parser's own text could quote the key.
    let key = PrivateKeyDer::from_pem_slice(&read(key_path)?)
        .map_err(|_| wrong(key_path, "it holds no private key in PEM form without a password"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        wrong(
            key_path,
            &format!("the key does not go with {}: {error}", path.display()),
        )
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let bytes = read(path)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    parsed.map_err(|error| wrong(path, &format!("it is no PEM file: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|error| unreadable(path, error))
}

fn wrong(path: &Path, message: &str) -> ConfigError {
    ConfigError::Pem {
        path: PathBuf::from(path),
        message: message.to_owned(),
    }
}

/// Offers the first certificate whose key the server can check.
#[derive(Debug)]
struct FirstThatFits(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for FirstThatFits {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0
            .iter()
            .find(|certified| certified.key.choose_scheme(schemes).is_some())
            .cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Accepts whatever certificate a server shows, which its user has asked for. That the server has the key of the
/// certificate is still checked.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_authorities_are_for_machines_without_any() {
        let built_in = roots(Roots::BuiltIn).len();
        assert!(built_in > 50, "{built_in}");
        assert_eq!(trusted(Vec::new()).len(), built_in);
        let nonsense = CertificateDer::from_slice(b"no certificate");
        assert_eq!(trusted(vec![nonsense.clone()]).len(), built_in);
        let own = unlade_test_support::Authority::new().pem();
        let own = CertificateDer::from_pem_slice(own.as_bytes()).unwrap();
        assert_eq!(
            trusted(vec![nonsense, own]).len(),
            1,
            "what the system trusts is all that is trusted"
        );
    }
}
