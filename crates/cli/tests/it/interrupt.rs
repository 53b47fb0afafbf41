//! A signal stops a pull within a second and leaves the store clean.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use unlade_test_support::{Compression, FakeRegistry, Fault, ImageBuilder, LayerBuilder};

use crate::sandbox::{Ran, Sandbox, layer, platform};

/// A registry that sends the beginning of a layer and then nothing more.
fn stalled() -> FakeRegistry {
    let registry = FakeRegistry::start();
    // Noise does not compress, so half of the blob is half of the file.
    let noise: Vec<u8> = (0_u32..1 << 18)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let large = LayerBuilder::new()
        .file("small", "x")
        .file("large", noise)
        .build(Compression::None);
    registry.fault(Fault::on_blob(&large.digest).stall_after(large.size() / 2));
    let image = ImageBuilder::new()
        .platform(&platform())
        .layer(large)
        .layer(layer("other", "y"))
        .build();
    registry.push("x", "1", &image);
    registry
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < limit, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Says whether this is the ingest of the large layer. A small file may be one that the opening of the store has for a moment,
/// before there is anything to interrupt.
fn has_bytes(path: impl AsRef<Path>) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 100_000)
}

/// Starts a pull and waits until it has half of the layer, and extracts it.
fn start(sandbox: &Sandbox, registry: &FakeRegistry) -> Child {
    let mut command = sandbox.command(["pull", "--progress", "none", &registry.reference("x", "1")]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("half of the layer is there", || {
        sandbox.entries("ingest").iter().any(has_bytes) && !sandbox.entries("staging").is_empty()
    });
    child
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn interrupted_by(signal: Signal) {
    let (sandbox, registry) = (Sandbox::new(), stalled());
    let child = start(&sandbox, &registry);
    let sent = Instant::now();
    send(&child, signal);
    let output = child.wait_with_output().unwrap();
    let taken = sent.elapsed();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{stderr}");
    assert!(taken < Duration::from_secs(1), "{taken:?}");
    assert!(stderr.starts_with("error: interrupted\nhint: "), "{stderr}");
    assert!(
        sandbox.entries("staging").is_empty(),
        "{:?}",
        sandbox.entries("staging")
    );

    // What has arrived is kept and continued.
    registry.clear_faults();
    registry.clear();
    let ran = Ran::of(&mut sandbox.command(["pull", &registry.reference("x", "1")]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(registry.requests().iter().any(|request| request.range.is_some()));
}

#[test]
fn ctrl_c() {
    interrupted_by(Signal::INT);
}

#[test]
fn termination() {
    interrupted_by(Signal::TERM);
}

#[test]
fn json_tells_the_class() {
    let (sandbox, registry) = (Sandbox::new(), stalled());
    let mut command = sandbox.command(["pull", "--format", "json", &registry.reference("x", "1")]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a layer is being fetched", || {
        sandbox.entries("ingest").iter().any(has_bytes)
    });
    send(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", output.status);
    let object: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(
        (&object["class"], &object["retryable"]),
        (&"interrupted".into(), &true.into())
    );
}
