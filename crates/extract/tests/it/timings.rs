//! What is measured of a layer.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use unlade_extract::stages::{FILES, HASH, INFLATE, READ, SMALL_FILES};
use unlade_extract::{Helpers, Limits, Options, Progress, digest_layer, extract_layer};
use unlade_oci::Algorithm;
use unlade_sys::{Dir, PartTimes, Stage, StageTimes, Timings, TimingsReport, Wait};
use unlade_test_support::{Compression, LayerBuilder};

use crate::sandbox::chain;

/// Gives the blob in pieces, after a wait for the first of them, which it counts.
struct Late<'a> {
    blob: &'a [u8],
    waits: Arc<AtomicU64>,
}

const LATE: Duration = Duration::from_millis(20);

impl Read for Late<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.waits.load(Ordering::Relaxed) == 0 {
            let began = Instant::now();
            thread::sleep(LATE);
            let waited = u64::try_from(began.elapsed().as_nanos()).unwrap();
            self.waits.store(waited, Ordering::Relaxed);
        }
        self.blob.read(buffer)
    }
}

fn measure(blob: &[u8], diff_algorithm: Algorithm) -> TimingsReport {
    let timings = Timings::with_spans();
    let waits = Arc::default();
    let late = Late {
        blob,
        waits: Arc::clone(&waits),
    };
    let progress = Progress::new().timed(timings.part("layer"), Some(waits));
    digest_layer(late, Algorithm::Sha256, diff_algorithm, &Limits::default(), &progress)
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    timings.report()
}

fn stage(part: &PartTimes, stage: Stage) -> &StageTimes {
    part.stages.iter().find(|times| times.stage == stage).unwrap()
}

#[test]
fn every_stage_is_within_its_span_and_has_its_bytes() {
    for (size, compression) in [
        (3_000_000, Compression::Gzip),
        (3_000_000, Compression::Zstd),
        // One thread does it all.
        (10, Compression::Gzip),
    ] {
        let layer = LayerBuilder::new()
            .dir("d", 0o755)
            .file("d/large", vec![7; size])
            .build(compression);
        let report = measure(&layer.bytes, Algorithm::Sha256);
        let part = &report.parts[0];
        let (compressed, raw) = (layer.bytes.len() as u64, layer.raw.len() as u64);
        let found: Vec<_> = part.stages.iter().map(|times| (times.stage, times.bytes)).collect();
        let expected = [
            (READ, compressed),
            (HASH, compressed + raw),
            (INFLATE, raw),
            (FILES, raw),
        ];
        assert_eq!(found, expected, "{size} bytes, {compression:?}");
        for times in &part.stages {
            let waited: Duration = Wait::ALL.into_iter().map(|wait| times.waited(wait)).sum();
            let span = times.ended.checked_sub(times.began).unwrap();
            assert!(times.busy + waited <= span, "{times:?}");
            assert!(times.ended <= report.wall, "{times:?}");
            assert_eq!(times.tracks, 1);
        }
        assert!(stage(part, READ).waited(Wait::Input) >= LATE);
        for track in &part.tracks {
            assert!(track.spans.iter().all(|span| span.began < span.ended));
            assert!(
                track.spans.is_sorted_by(|one, next| one.ended <= next.began),
                "{track:?}"
            );
        }
    }
}

#[test]
fn a_plain_layer_is_not_inflated_and_is_hashed_once_if_that_is_enough() {
    let layer = LayerBuilder::new()
        .file("large", vec![7; 1_000_000])
        .build(Compression::None);
    let bytes = layer.bytes.len() as u64;
    for (algorithm, hashed) in [(Algorithm::Sha256, bytes), (Algorithm::Sha512, 2 * bytes)] {
        let report = measure(&layer.bytes, algorithm);
        let stages = &report.parts[0].stages;
        let found: Vec<_> = stages.iter().map(|times| (times.stage, times.bytes)).collect();
        assert_eq!(found, [(READ, bytes), (HASH, hashed), (FILES, bytes)]);
    }
}

#[test]
fn what_a_helper_does_is_measured_on_a_track_of_its_own() {
    const FILES_MADE: u64 = 2000;
    let layer = (0..FILES_MADE)
        .fold(LayerBuilder::new(), |layer, file| {
            layer.file(format!("{file}"), [b'x'; 1000])
        })
        .build(Compression::None);
    let target = tempfile::tempdir().unwrap();
    let options = Options {
        helpers: Helpers::new(1).eager(),
        ..Options::default()
    };
    let timings = Timings::with_spans();
    let progress = Progress::new().timed(timings.part("layer"), None);
    let (dir, sha) = (Dir::open(target.path()).unwrap(), Algorithm::Sha256);
    extract_layer(&layer.bytes[..], &dir, sha, sha, &options, &progress)
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let report = timings.report();
    let part = &report.parts[0];
    let small = stage(part, SMALL_FILES);
    assert!(small.bytes > 0 && small.bytes <= 1000 * FILES_MADE, "{small:?}");
    assert!(
        !small.busy.is_zero() && small.busy + small.waited(Wait::Input) <= small.ended.saturating_sub(small.began),
        "{small:?}"
    );
    assert_eq!(stage(part, FILES).bytes, layer.raw.len() as u64);
}
