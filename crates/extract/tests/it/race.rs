//! Extraction beside somebody who moves directories about in the very tree that is being written.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use unlade_extract::{Error, LayerReport, Options, Privilege};
use unlade_oci::ErrorClass;
use unlade_test_support::{Compression, LayerBuilder};

use crate::sandbox::{Sandbox, chain};

/// Directories with children, links to them, and attributes for all of them, over and over.
fn layer() -> LayerBuilder {
    let mut layer = LayerBuilder::new().dir("d/deep/er", 0o755).symlink("link", "d/deep");
    for number in 0..300 {
        layer = match number % 6 {
            0 => layer.file(format!("d/deep/er/file{number}"), "x"),
            1 => layer.file(format!("link/er/through{number}"), "x"),
            2 => layer.dir(format!("d/deep/dir{number}"), 0o700),
            3 => layer.hardlink(format!("d/hard{number}"), format!("d/deep/er/file{}", number - 3)),
            4 => layer.file_with("d/deep/er/file", "x", |entry| entry.mode(0o4777)),
            _ => layer.whiteout("d/deep/file"),
        };
    }
    layer
}

/// Extracts `layer` while `directory` changes places with a link to `out`. Returns nothing if it never did.
fn extract_while_swapping(
    layer: &LayerBuilder,
    directory: &str,
    out: &str,
    privilege: Privilege,
) -> Option<Result<LayerReport, Error>> {
    let sandbox = Sandbox::new();
    let evil = sandbox.target().join("evil");
    symlink(out, &evil).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            let directory = sandbox.target().join(directory);
            while !stop.load(Ordering::Relaxed) {
                if unlade_sys::exchange(&directory, &evil).is_ok() {
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let options = Options {
            privilege,
            ..Options::default()
        };
        let outcome = sandbox.extract_beside_others(&layer.build(Compression::None).bytes, &options);
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    (swaps.into_inner() > 0).then_some(outcome)
}

/// Every directory of the path changes places with a link out of the tree, all the time. What is written may be anywhere in
/// the tree then, and extraction may fail, but nothing outside is touched. `Sandbox` checks that.
#[test]
fn directories_that_become_links_while_they_are_written_to_lead_nowhere() {
    let layer = layer();
    for privilege in [Privilege::of_process(), Privilege::User] {
        for (directory, out) in [
            ("d", "../canary"),
            ("d/deep", "../../canary/deep"),
            ("d/deep/er", "../../../canary/deep/er"),
            ("d/deep", "/etc"),
        ] {
            // On a busy machine an extraction may be over before anything was moved.
            let outcome = (0..100).find_map(|_| extract_while_swapping(&layer, directory, out, privilege));
            let outcome = outcome.unwrap_or_else(|| panic!("{directory} was never there"));
            if let Err(error) = outcome {
                assert!(
                    matches!(error.class(), ErrorClass::Storage | ErrorClass::Rejected),
                    "{}",
                    chain(&error)
                );
            }
        }
    }
}
