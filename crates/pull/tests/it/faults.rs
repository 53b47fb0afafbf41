//! What a pull makes of each fault at each stage: a matrix, whose result is a page of the book.
//!
//! Every cell is a pull of one image from a registry in which one thing goes wrong. It either completes with the right
//! bytes or fails with a class; none hangs. The results are compared with `docs/faults.md`; with the variable
//! `UNLADE_WRITE_DOCS` set, that page is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use unlade_oci::Digest;
use unlade_pull::{Error, Options};
use unlade_reference::Reference;
use unlade_registry::{CertsDirs, Client, EndpointFiles, Hosts, Overrides, RegistriesConf, RetryPolicy, Timeouts};
use unlade_test_support::{
    Artifact as _, Authority, Compression, FakeRegistry, Fault, ImageBuilder, Index, IndexBuilder, LayerBuilder,
    TlsFront, TokenAuth,
};

use crate::support::Home;

/// Where the results stand.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");
/// How long a cell may take; far more than one that waits for every attempt does.
const HANG: Duration = Duration::from_secs(40);
/// Cells at the same time.
const AT_ONCE: usize = 8;
/// Where the blob breaks off for the stage that continues it.
const BROKEN_OFF_AT: u64 = 150_000;

/// Which request something happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Token,
    Tag,
    Manifest,
    Config,
    Blob,
    Rest,
}

impl Stage {
    const ALL: [Self; 6] = [
        Self::Token,
        Self::Tag,
        Self::Manifest,
        Self::Config,
        Self::Blob,
        Self::Rest,
    ];
    const BLOBS: [Self; 3] = [Self::Config, Self::Blob, Self::Rest];

    const fn head(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Tag => "index by tag",
            Self::Manifest => "manifest",
            Self::Config => "configuration",
            Self::Blob => "layer",
            Self::Rest => "rest of a layer",
        }
    }
}

/// How often it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Once,
    Always,
}

/// One registry with one image, and where its blobs may be redirected to.
struct World {
    registry: FakeRegistry,
    storage: FakeRegistry,
    index: Index,
    manifest: Digest,
    config: Digest,
    layer: Digest,
    layer_size: u64,
    /// TLS before the registry, in the rows that are about it.
    front: Option<TlsFront>,
}

impl World {
    fn new(tls: bool) -> Self {
        let (registry, storage) = (FakeRegistry::start(), FakeRegistry::start());
        let layer = LayerBuilder::new()
            .file("noise", noise(400_000))
            .build(Compression::Gzip);
        let host = unlade_oci::Platform::host();
        let image = ImageBuilder::new()
            .platform(&format!("{}/{}", host.os, host.architecture))
            .layer(layer)
            .build();
        let index = IndexBuilder::new().image(&image).build();
        registry.push("app", "1", &index);
        storage.push("app", "1", &index);
        let front = tls.then(|| TlsFront::start(&registry.host(), &Authority::new().server(&["127.0.0.1"]), None));
        let tokens = TokenAuth::new();
        registry.require_token(match &front {
            Some(front) => tokens.realm(&format!("https://{}/token", front.host())),
            None => tokens,
        });
        let layer = image.layers[0].clone();
        Self {
            registry,
            storage,
            manifest: image.digest.clone(),
            config: Digest::sha256(&image.config),
            layer_size: image.blobs()[&layer].len() as u64,
            layer,
            index,
            front,
        }
    }

    fn host(&self) -> String {
        self.front.as_ref().map_or_else(|| self.registry.host(), TlsFront::host)
    }

    /// Where the servers are, and that certificates of theirs are believed.
    fn endpoints(&self) -> Overrides {
        let files = EndpointFiles::new(CertsDirs::new(Vec::new()), RegistriesConf::default());
        let overrides = Overrides::of(Arc::new(files));
        match &self.front {
            Some(front) => overrides.skip_verify(Hosts::Named(front.host())),
            None => overrides,
        }
    }

    /// A fault on the request of a stage.
    fn on(&self, stage: Stage, when: When) -> Fault {
        let fault = match stage {
            Stage::Token => Fault::on_token(),
            Stage::Tag => Fault::on_manifest("1"),
            Stage::Manifest => Fault::on_manifest(&self.manifest),
            Stage::Config => Fault::on_blob(&self.config),
            Stage::Blob | Stage::Rest => Fault::on_blob(&self.layer),
        };
        // To get to the rest, the first request has to break off.
        let first = if stage == Stage::Rest { 2 } else { 1 };
        match when {
            When::Once => fault.nth(first),
            When::Always => fault.from(first),
        }
    }

    /// The path of the request of a stage.
    fn path(&self, stage: Stage) -> String {
        match stage {
            Stage::Token => "/token".to_owned(),
            Stage::Tag => "/v2/app/manifests/1".to_owned(),
            Stage::Manifest => format!("/v2/app/manifests/{}", self.manifest),
            Stage::Config => format!("/v2/app/blobs/{}", self.config),
            Stage::Blob | Stage::Rest => format!("/v2/app/blobs/{}", self.layer),
        }
    }

    fn served(&self) -> u64 {
        self.registry.blob_bytes_served(&self.layer) + self.storage.blob_bytes_served(&self.layer)
    }
}

/// One row of the matrix.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    when: When,
    stages: &'static [Stage],
    /// Whether the layer need not be sent again.
    resumes: bool,
    /// Whether the registry is spoken to by TLS.
    tls: bool,
    make: fn(&World, Stage, When),
}

/// A row with a fault on the very request.
macro_rules! fault {
    ($($method:ident($($argument:expr),*)).+) => {
        |world, stage, when| world.registry.fault(world.on(stage, when).$($method($($argument),*)).+)
    };
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn rows() -> Vec<Row> {
    let both = |name, stages: &'static [Stage], resumes, make: fn(&World, Stage, When)| {
        [When::Once, When::Always].map(|when| Row {
            name,
            when,
            stages,
            resumes,
            tls: false,
            make,
        })
    };
    let all = &Stage::ALL[..];
    let rest: &'static [Stage] = &[Stage::Rest];
    let rows = [
        both(
            "it closes the connection without an answer",
            all,
            true,
            fault!(no_response()),
        ),
        both(
            "it does not answer in time",
            all,
            true,
            fault!(delay(Duration::from_mins(1))),
        ),
        both(
            "it stops in the middle of the answer",
            all,
            true,
            fault!(stall_after(10)),
        ),
        both(
            "the answer trickles",
            all,
            true,
            fault!(trickle(5, Duration::from_millis(200))),
        ),
        both(
            "the connection is cut in the middle of the answer",
            all,
            true,
            fault!(cut_after(10)),
        ),
        both("401, with a challenge", all, true, fault!(unauthorized())),
        both("403", all, true, fault!(status(403))),
        both("404", all, true, fault!(status(404))),
        both(
            "429, to be tried again after 0 s",
            all,
            true,
            fault!(status(429).header("retry-after", "0")),
        ),
        both(
            "429, to be tried again after an hour",
            all,
            true,
            fault!(status(429).header("retry-after", "3600")),
        ),
        both("429, without a time", all, true, fault!(status(429))),
        both("500", all, true, fault!(status(500))),
        both("503", all, true, fault!(status(503))),
        both("a web page in place of the answer", all, true, fault!(html())),
        both(
            "other bytes than those asked for",
            &Stage::ALL[1..],
            false,
            fault!(corrupt_at(60)),
        ),
        both("fewer bytes than it declares", all, false, |world, stage, when| {
            let fault = world.on(stage, when).declare_length(1 << 20);
            world.registry.fault(fault);
        }),
        both(
            "a declared length that is too short",
            all,
            false,
            fault!(declare_length(40)),
        ),
        both("a redirect in a circle", all, true, |world, stage, when| {
            let target = format!("{}{}", world.registry.url(), world.path(stage));
            let mut fault = world.on(stage, when);
            // The requests that the redirect leads to are met as well.
            if when == When::Once {
                fault = world.on(stage, When::Always);
            }
            world.registry.fault(fault.redirect(307, target));
        }),
        both(
            "a redirect to a port that is closed",
            all,
            true,
            |world, stage, when| {
                let target = format!("http://{}{}", closed_port(), world.path(stage));
                world.registry.fault(world.on(stage, when).redirect(307, target));
            },
        ),
        both(
            "a redirect to a host that is not known",
            all,
            true,
            |world, stage, when| {
                let target = format!("http://storage.invalid{}", world.path(stage));
                world.registry.fault(world.on(stage, when).redirect(307, target));
            },
        ),
        both("a redirect without a target", all, true, fault!(status(307))),
        both(
            "a redirect to a signed URL that has run out",
            &Stage::BLOBS,
            true,
            |world, stage, when| {
                world.storage.require_signature(None);
                let registry = world.on(stage, When::Always).redirect_presigned(307, &world.storage);
                world.registry.fault(registry);
                let on_storage = match stage {
                    Stage::Config => Fault::on_blob(&world.config),
                    _ => Fault::on_blob(&world.layer),
                };
                let on_storage = match when {
                    When::Once => on_storage.nth(1),
                    When::Always => on_storage,
                };
                world.storage.fault(on_storage.status(403));
            },
        ),
        both(
            "a token that has run out, told by 400",
            &Stage::ALL[1..],
            true,
            fault!(
                status(400).body(r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired."}]}"#)
            ),
        ),
        both(
            "200 and the whole, where a range was asked for",
            rest,
            false,
            fault!(ignore_range()),
        ),
        both(
            "206 with another range than asked for",
            rest,
            false,
            fault!(content_range("bytes 0-9/*")),
        ),
        both(
            "206 without a range",
            rest,
            false,
            fault!(without_header("content-range")),
        ),
        both("416 in the middle of the layer", rest, false, fault!(status(416))),
    ];
    let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
    for mut row in both("a redirect from https to http", all, true, |world, stage, when| {
        let target = format!("{}{}", world.registry.url(), world.path(stage));
        world.registry.fault(world.on(stage, when).redirect(307, target));
    }) {
        row.tls = true;
        rows.push(row);
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_fault_at_every_stage() {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut cells = JoinSet::new();
    let rows = rows();
    for (number, row) in rows.iter().enumerate() {
        for stage in row.stages {
            let (row, stage, permits) = (*row, *stage, Arc::clone(&permits));
            cells.spawn(async move {
                let _permit = permits.acquire_owned().await.unwrap();
                (number, stage, cell(row, stage).await)
            });
        }
    }
    let results: BTreeMap<(usize, Stage), String> = cells
        .join_all()
        .await
        .into_iter()
        .map(|(number, stage, outcome)| ((number, stage), outcome))
        .collect();
    assert!(results.len() >= 60, "{} cells", results.len());
    let page = page(&rows, &results);
    #[expect(clippy::disallowed_methods, reason = "a test is told by it to write what it checks")]
    if std::env::var_os("UNLADE_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differing: Vec<_> = page
        .lines()
        .filter(|line| !written.lines().any(|own| own == *line))
        .collect();
    assert!(
        page == written,
        "docs/faults.md says otherwise; if these are right, run the test with UNLADE_WRITE_DOCS=1:\n{}",
        differing.join("\n")
    );
}

/// Pulls with one thing wrong; returns what came of it.
async fn cell(row: Row, stage: Stage) -> String {
    let world = World::new(row.tls);
    if stage == Stage::Rest {
        let cut = Fault::on_blob(&world.layer).nth(1).cut_after(BROKEN_OFF_AT);
        world.registry.fault(cut);
    }
    (row.make)(&world, stage, row.when);
    let home = Home::new();
    let policy = RetryPolicy {
        attempts: 4,
        backoff: Duration::from_millis(4),
        max_backoff: Duration::from_millis(20),
        max_wait: Duration::from_secs(5),
    };
    let timeouts = Timeouts {
        connect: Duration::from_secs(1),
        response: Duration::from_secs(1),
        idle: Duration::from_secs(1),
        min_progress: 16 << 10,
    };
    let client = Client::builder()
        .retry(policy)
        .timeouts(timeouts)
        .endpoints(Arc::new(world.endpoints()))
        .build()
        .unwrap();
    let puller = home.puller_with(client);
    let reference: Reference = format!("{}/app:1", world.host()).parse().unwrap();
    let (references, options) = ([reference], Options::default());
    let pull = puller.pull(&references, &options);
    let what = format!("{} ({:?}) at {stage:?}", row.name, row.when);
    let Ok(result) = tokio::time::timeout(HANG, pull).await else {
        panic!("{what} hangs");
    };
    home.recorder.assert_balanced();
    assert!(home.stray_files().is_empty(), "{what} leaves {:?}", home.stray_files());
    match result {
        Ok(pulled) => {
            let layer = &pulled[0].image.layers[0];
            let file = layer.directory.as_ref().unwrap().join("noise");
            assert!(std::fs::read(file).unwrap() == noise(400_000), "{what}: wrong bytes");
            assert_eq!(pulled[0].image.digest(), world.index.digest(), "{what}");
            let (served, size) = (world.served(), world.layer_size);
            if row.resumes {
                assert!(served * 100 <= size * 105, "{what}: {served} bytes served of {size}");
            } else {
                assert!(served <= size * 3, "{what}: {served} bytes served of {size}");
            }
            "completes".to_owned()
        }
        Err(error) => failure(&error),
    }
}

fn failure(error: &Error) -> String {
    let class = error.class();
    format!("{} ({})", class.as_str(), class.exit_code())
}

fn page(rows: &[Row], results: &BTreeMap<(usize, Stage), String>) -> String {
    let mut page = String::from(INTRODUCTION);
    let heads: Vec<_> = Stage::ALL.iter().map(|stage| stage.head()).collect();
    writeln!(page, "| what the server does | how often | {} |", heads.join(" | ")).unwrap();
    writeln!(page, "|---|---|{}", "---|".repeat(heads.len())).unwrap();
    for (number, row) in rows.iter().enumerate() {
        let cells = Stage::ALL.map(|stage| results.get(&(number, stage)).map_or("", String::as_str));
        let when = match row.when {
            When::Once => "once",
            When::Always => "always",
        };
        writeln!(page, "| {} | {when} | {} |", row.name, cells.join(" | ")).unwrap();
    }
    page
}

const INTRODUCTION: &str = "\
# Faults

What a pull makes of a server that misbehaves. Each cell is one pull of an image with one layer, from a registry that wants
tokens, in which one thing goes wrong with one request: once, or every time. *completes* means that the layer's directory has
the right files; otherwise the [class of the error](errors.md) is named, with its exit code. No cell hangs, and nothing half
done is left but what a later pull continues. Where a pull completes and the server can continue a layer, it has sent at most
1.05 times the layer's bytes.

*rest of a layer* is the request that continues a layer after its connection was cut in the middle. With mirrors
([Registries](registries.md)) a fault of one server leads to the next; here there is only one.

This page is written by the test that makes these pulls, and the test fails if they come out otherwise.

";

fn closed_port() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Bytes that do not compress, always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
