//! TLS with authorities of one's own, client certificates, and none of it.

use std::path::Path;
use std::sync::Arc;

use unlade_oci::ErrorClass;
use unlade_reference::{Defaults, Repository};
use unlade_registry::{
    CertsDirs, Client, ClientCertificate, EndpointFiles, EndpointSource, Error, Hosts, Overrides, RegistriesConf,
    Selector, TlsProblem,
};
use unlade_test_support::{Authority, FakeRegistry, Fault, TlsFront};

use crate::{Fixture, IMAGE, MANIFEST, fetch, noise, quick, tag, text};

const NAMES: [&str; 1] = ["127.0.0.1"];

/// A registry behind TLS, and a directory for certificates.
struct Secure {
    fixture: Fixture,
    authority: Authority,
    front: TlsFront,
    directory: tempfile::TempDir,
}

impl Secure {
    fn start() -> Self {
        let authority = Authority::new();
        let identity = authority.server(&NAMES);
        Self::with(authority, &identity, None)
    }

    fn with(authority: Authority, identity: &unlade_test_support::Identity, clients: Option<&Authority>) -> Self {
        let fixture = Fixture::start();
        Self {
            front: TlsFront::start(&fixture.registry.host(), identity, clients),
            fixture,
            authority,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn repository(&self) -> Repository {
        Repository::parse(&format!("{}/{IMAGE}", self.front.host()), &Defaults::standard()).unwrap()
    }

    /// What is set for a moment, on top of docker's directory of certificates.
    fn overrides(&self) -> Overrides {
        let files = CertsDirs::new(vec![self.path().to_owned()]);
        Overrides::of(Arc::new(EndpointFiles::new(files, RegistriesConf::default())))
    }

    async fn pull(&self, source: impl EndpointSource + 'static) -> Result<(), Error> {
        self.pull_with(&self.client(source)).await
    }

    fn client(&self, source: impl EndpointSource + 'static) -> Client {
        self.fixture.builder().endpoints(Arc::new(source)).build().unwrap()
    }

    async fn pull_with(&self, client: &Client) -> Result<(), Error> {
        let manifest = client.manifest(&self.repository(), &Selector::Tag(&tag())).await?;
        assert_eq!(manifest.bytes, MANIFEST);
        Ok(())
    }

    /// Pulls, which must fail for a reason of TLS.
    async fn problem(&self, source: impl EndpointSource + 'static) -> (TlsProblem, String) {
        let error = self.pull(source).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Network, "{error}");
        assert!(!error.is_retryable());
        let Error::Transport { source, exchange, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(exchange.url.host(), self.front.host());
        (source.tls_problem().unwrap(), text(&error))
    }
}

#[tokio::test]
async fn an_authority_of_ones_own() {
    let secure = Secure::start();
    let ca = secure.authority.write(&secure.path().join("ca.pem"));
    secure.pull(secure.overrides().authority(ca)).await.unwrap();
    let other = Authority::new().write(&secure.path().join("other.pem"));
    let (problem, text) = secure.problem(secure.overrides().authority(other)).await;
    assert_eq!(problem, TlsProblem::UnknownAuthority);
    assert!(
        text.contains("the server's certificate is of no authority that is trusted here"),
        "{text}"
    );
}

#[tokio::test]
async fn the_directories_that_docker_reads() {
    let secure = Secure::start();
    let directory = secure.path().join(secure.front.host());
    std::fs::create_dir(&directory).unwrap();
    secure.authority.write(&directory.join("ca.crt"));
    secure.pull(secure.overrides()).await.unwrap();
}

#[tokio::test]
async fn any_certificate_if_that_is_wanted() {
    let secure = Secure::start();
    let host = secure.front.host();
    for hosts in [Hosts::Registries, Hosts::Named(host)] {
        secure.pull(secure.overrides().skip_verify(hosts)).await.unwrap();
    }
}

#[tokio::test]
async fn any_certificate_is_for_that_server_alone() {
    let secure = Secure::start();
    let storage = FakeRegistry::start();
    let front = TlsFront::start(&storage.host(), &secure.authority.server(&NAMES), None);
    let bytes = noise(1000);
    let descriptor = secure.fixture.push(&bytes);
    storage.serve_at("/x", bytes.clone());
    let target = format!("https://{}/x", front.host());
    secure.fixture.registry.fault(Fault::on_blobs().redirect(307, target));

    let any = secure.client(secure.overrides().skip_verify(Hosts::Registries));
    let error = fetch(&any, &secure.repository(), &descriptor).await.unwrap_err();
    assert!(error.exchange().unwrap().url.host() == front.host(), "{error}");

    let ca = secure.authority.write(&secure.path().join("ca.pem"));
    let known = secure.client(secure.overrides().authority(ca));
    let fetched = fetch(&known, &secure.repository(), &descriptor).await;
    assert_eq!(
        fetched.unwrap(),
        bytes,
        "an authority is trusted wherever the server leads to"
    );
}

#[tokio::test]
async fn a_certificate_of_the_client() {
    let authority = Authority::new();
    let identity = authority.server(&NAMES);
    let clients = Authority::new();
    let secure = Secure::with(authority, &identity, Some(&clients));
    let ca = secure.authority.write(&secure.path().join("ca.pem"));
    let trusting = || secure.overrides().authority(ca.clone());
    let (certificate, key) = clients.client("somebody").write(secure.path(), "client");
    let pair = |key: Option<&Path>| ClientCertificate {
        certificate: certificate.clone(),
        key: key.map(Path::to_owned),
    };
    let with_key = trusting().client_certificate(Hosts::Registries, pair(Some(&key)));
    secure.pull(with_key).await.unwrap();

    let (problem, text) = secure.problem(trusting()).await;
    assert_eq!(problem, TlsProblem::WantsCertificate);
    assert!(
        text.contains("does not accept the client without another certificate"),
        "{text}"
    );

    let error = secure
        .pull(trusting().client_certificate(Hosts::Registries, pair(None)))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    assert!(text_of_key(&error), "{}", crate::text(&error));
}

/// There is no key beside the certificate, and the message names the file.
fn text_of_key(error: &Error) -> bool {
    text(error).contains("client.cert: it holds no private key in PEM form")
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told() {
    let authority = Authority::new();
    let table = [
        (
            authority.expired_server(&NAMES),
            TlsProblem::Expired,
            "is not valid now",
        ),
        (
            authority.server(&["registry.example"]),
            TlsProblem::OtherName,
            "is for another name",
        ),
    ];
    let ca = authority.pem();
    for (identity, expected, part) in table {
        let secure = Secure::with(Authority::new(), &identity, None);
        let path = secure.path().join("ca.pem");
        std::fs::write(&path, &ca).unwrap();
        let (problem, text) = secure.problem(secure.overrides().authority(path)).await;
        assert_eq!(problem, expected);
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn plain_http_makes_no_attempt_at_tls_and_https_none_at_http() {
    let fixture = Fixture::start();
    let host = fixture.registry.host();
    let nothing = || Arc::new(EndpointFiles::default());
    let client = |source: Overrides| {
        let builder = Client::builder().retry(quick()).endpoints(Arc::new(source));
        builder.build().unwrap()
    };
    let plain = client(Overrides::of(nothing()).plain_http(Hosts::Named(host.clone())));
    let repository = fixture.repository();
    plain.manifest(&repository, &Selector::Tag(&tag())).await.unwrap();
    assert_eq!(fixture.registry.connections(), 1);

    let secure = client(Overrides::of(nothing()).skip_verify(Hosts::Named(host)));
    let error = secure.manifest(&repository, &Selector::Tag(&tag())).await.unwrap_err();
    assert!(
        text(&error).contains("the server does not speak TLS"),
        "{}",
        text(&error)
    );
    assert_eq!(fixture.log().len(), 1, "nothing was asked by http");
}

#[tokio::test]
async fn files_that_hold_no_certificate_are_an_error() {
    let secure = Secure::start();
    let path = secure.path().join("empty.pem");
    std::fs::write(&path, "not a certificate").unwrap();
    let error = secure.pull(secure.overrides().authority(path)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    let text = text(&error);
    assert!(
        text.contains("empty.pem: it holds no certificate in PEM form"),
        "{text}"
    );
}

#[tokio::test]
async fn tokens_come_from_the_same_server_under_the_same_settings() {
    let secure = Secure::start();
    let realm = format!("https://{}/token", secure.front.host());
    let auth = unlade_test_support::TokenAuth::new().realm(&realm);
    secure.fixture.registry.require_token(auth.clone());
    secure.fixture.registry.serve_tokens(auth);
    let any = secure.overrides().skip_verify(Hosts::Registries);
    secure.pull(any).await.unwrap();
}
