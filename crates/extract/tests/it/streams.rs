//! What carries the archive: compression, digests, damaged and failing inputs.

use std::collections::HashSet;
use std::io::{self, Read, Write as _};
use std::thread::{self, ThreadId};

use flate2::write::GzEncoder;
use unlade_extract::{
    Entry, EntryContent, EntrySink, Error, Kind, LayerReport, Limits, Note, Options, Progress, digest_layer,
    extract_layer, read_layer,
};
use unlade_oci::{Algorithm, Compression, Digest, ErrorClass};
use unlade_sys::Dir;
use unlade_test_support::{Layer, LayerBuilder};

use crate::sandbox::{Sandbox, chain};

/// Bytes that do not compress to nothing, more than all buffers of a layer hold.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7] & 0x3f
    };
    (0..length).map(|_| next()).collect()
}

fn builder() -> LayerBuilder {
    LayerBuilder::new()
        .dir("d", 0o755)
        .file("d/large", noise(5_000_000))
        .file("d/small", "x")
        .symlink("l", "d")
}

fn digest(blob: &[u8]) -> Result<LayerReport, Error> {
    digest_layer(
        blob,
        Algorithm::Sha256,
        Algorithm::Sha256,
        &Limits::default(),
        &Progress::new(),
    )
}

fn assert_digests(layer: &Layer, compression: Compression) -> LayerReport {
    let sandbox = Sandbox::new();
    let report = sandbox
        .extract_with(&layer.bytes, &Options::default())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(report.blob.digest, layer.digest);
    assert_eq!(report.blob.size, layer.bytes.len() as u64);
    assert_eq!(report.raw.digest, layer.diff_id);
    assert_eq!(report.raw.size, layer.raw.len() as u64);
    assert_eq!(report.compression, compression);
    let tree = sandbox.tree();
    assert_eq!(
        tree.node("d/large").content.as_ref().unwrap(),
        &Digest::sha256(noise(5_000_000))
    );
    assert_eq!((report.entries, report.is_empty), (4, false));
    let digested = digest(&layer.bytes).unwrap();
    assert_eq!((digested.blob, digested.raw), (report.blob.clone(), report.raw.clone()));
    report
}

#[test]
fn every_compression_one_or_many_members() {
    let builder = builder();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        assert_digests(&builder.build(compression), compression);
    }
    assert_digests(&builder.multi_member_gzip(7), Compression::Gzip);
    assert_digests(&builder.multi_frame_zstd(5), Compression::Zstd);
}

#[test]
fn a_member_for_every_few_bytes() {
    let tar = LayerBuilder::new().file("f", noise(2000)).tar();
    let layer = Layer::new(
        LayerBuilder::new().file("f", noise(2000)).multi_member_gzip(500).bytes,
        Compression::Gzip,
        tar,
    );
    let report = digest(&layer.bytes).unwrap();
    assert_eq!(report.raw.digest, layer.diff_id);
}

#[test]
fn one_byte_at_a_time() {
    struct Trickle<'a>(&'a [u8]);
    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }
    let builder = LayerBuilder::new().file("f", noise(3000));
    for layer in [
        builder.build(Compression::None),
        builder.build(Compression::Gzip),
        builder.build(Compression::Zstd),
        builder.multi_member_gzip(20),
        builder.multi_frame_zstd(20),
    ] {
        let (limits, progress) = (Limits::default(), Progress::new());
        let sha = Algorithm::Sha256;
        let report = digest_layer(Trickle(&layer.bytes), sha, sha, &limits, &progress).unwrap();
        assert_eq!((report.blob.digest, report.raw.digest), (layer.digest, layer.diff_id));
        assert_eq!(
            (progress.compressed(), progress.raw()),
            (layer.bytes.len() as u64, layer.raw.len() as u64)
        );
        assert_eq!(progress.entries(), 1);
    }
}

#[test]
fn sha512_on_either_side() {
    let layer = LayerBuilder::new().file("f", "x").build(Compression::None);
    for (blob, diff) in [
        (Algorithm::Sha512, Algorithm::Sha256),
        (Algorithm::Sha256, Algorithm::Sha512),
    ] {
        let report = digest_layer(&layer.bytes[..], blob, diff, &Limits::default(), &Progress::new()).unwrap();
        assert_eq!(report.blob.digest, Digest::of(blob, &layer.bytes));
        assert_eq!(report.raw.digest, Digest::of(diff, &layer.raw));
        assert_eq!(report.blob.size, report.raw.size);
    }
}

#[test]
fn empty_layers() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let layer = LayerBuilder::new().build(compression);
        let report = digest(&layer.bytes).unwrap();
        assert!(report.is_empty && report.entries == 0 && report.summary.notes.is_empty());
        assert_eq!((report.blob.digest, report.raw.digest), (layer.digest, layer.diff_id));
    }
    let report = digest(b"").unwrap();
    assert!(report.is_empty);
    assert_eq!(
        (report.blob.digest, report.raw.digest),
        (Digest::sha256(""), Digest::sha256(""))
    );
    let nothing_compressed = Layer::from_tar("", Compression::Gzip);
    assert!(digest(&nothing_compressed.bytes).unwrap().is_empty);
}

#[test]
fn what_follows_the_archive_is_part_of_the_diff_id() {
    let builder = LayerBuilder::new().file("f", "x").after_end(noise(2_000_000));
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let layer = builder.build(compression);
        let report = digest(&layer.bytes).unwrap();
        assert_eq!((report.blob.digest, report.raw.digest), (layer.digest, layer.diff_id));
        assert_eq!(report.summary.count(Note::BytesAfterEnd), 1);
    }
}

#[test]
fn what_follows_the_compressed_data_is_part_of_the_blob_only() {
    let garbage = noise(300_000);
    for (compression, trailer) in [
        (Compression::Gzip, &[0; 700][..]),
        (Compression::Gzip, &garbage),
        (Compression::Gzip, &[0x1f]),
        (Compression::Zstd, &[0; 700]),
        (Compression::Zstd, &garbage),
        (Compression::Zstd, &[0x28, 0xb5]),
    ] {
        let layer = LayerBuilder::new().file("f", "x").build(compression);
        let blob = [&layer.bytes[..], trailer].concat();
        let report = digest(&blob).unwrap();
        assert_eq!(
            (report.blob.digest, report.raw.digest),
            (Digest::sha256(&blob), layer.diff_id)
        );
        assert_eq!(report.blob.size, blob.len() as u64);
        assert_eq!(report.summary.count(Note::BytesAfterCompressed), 1);
    }
}

#[test]
fn truncated_and_damaged_streams() {
    let builder = LayerBuilder::new().file("f", noise(200_000));
    for compression in [Compression::Gzip, Compression::Zstd] {
        let bytes = builder.build(compression).bytes;
        for length in [5, 20, bytes.len() / 2, bytes.len() - 1] {
            let error = digest(&bytes[..length]).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Rejected);
            assert!(
                matches!(error, Error::CompressedTruncated { .. }),
                "{compression} {length}: {}",
                chain(&error)
            );
        }
        let mut damaged = bytes.to_vec();
        damaged[bytes.len() / 2] ^= 0x55;
        match digest(&damaged) {
            Err(error) => assert_eq!(error.class(), ErrorClass::Rejected, "{compression}: {}", chain(&error)),
            // A zstd frame need not have a checksum; the digests tell.
            Ok(report) => assert!(compression == Compression::Zstd && report.blob.digest == Digest::sha256(&damaged)),
        }
    }
    // The checksum of the member.
    let mut damaged = builder.build(Compression::Gzip).bytes.to_vec();
    let at = damaged.len() - 6;
    damaged[at] ^= 1;
    assert!(matches!(digest(&damaged).unwrap_err(), Error::Compressed { .. }));
    // A second member that is none.
    let broken = [
        &builder.build(Compression::Gzip).bytes[..],
        b"\x1f\x8b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ]
    .concat();
    assert!(matches!(digest(&broken).unwrap_err(), Error::Compressed { .. }));
}

/// Delivers bytes, then fails.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::Error::other("the connection broke"));
        }
        self.0.read(buffer)
    }
}

#[test]
fn a_failing_input_is_the_cause() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let layer = builder().build(compression);
        for length in [0, 1, 1000, layer.bytes.len() / 2] {
            let sandbox = Sandbox::new();
            let target = Dir::open(&sandbox.target()).unwrap();
            let sha = Algorithm::Sha256;
            let input = Failing(&layer.bytes[..length]);
            let error = extract_layer(input, &target, sha, sha, &Options::default(), &Progress::new()).unwrap_err();
            assert!(error.is_input(), "{compression} {length}: {}", chain(&error));
            assert!(chain(&error).ends_with("the connection broke"));
        }
    }
}

/// A sink that fails, or panics, at an entry.
struct Bad {
    panics: bool,
}

impl EntrySink for Bad {
    fn entry(&mut self, entry: &Entry<'_>, _: &mut dyn EntryContent) -> Result<(), Error> {
        if entry.path == b"d/large" {
            assert!(!self.panics, "the sink panicked");
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn read(blob: &[u8], sink: &mut (dyn EntrySink + Send)) -> Result<LayerReport, Error> {
    read_layer(
        blob,
        sink,
        Algorithm::Sha256,
        Algorithm::Sha256,
        &Limits::default(),
        &Progress::new(),
    )
}

#[test]
fn a_failing_sink_ends_everything() {
    let layer = builder().build(Compression::Gzip);
    assert!(matches!(
        read(&layer.bytes, &mut Bad { panics: false }).unwrap_err(),
        Error::Cancelled
    ));
}

/// An input that panics.
struct Panicking;

impl Read for Panicking {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("the input panicked")
    }
}

#[test]
fn a_panic_is_a_panic() {
    let layer = builder().build(Compression::Gzip);
    let outcome = std::panic::catch_unwind(|| read(&layer.bytes, &mut Bad { panics: true }));
    let message = *outcome.unwrap_err().downcast::<&str>().unwrap();
    assert!(message.contains("the sink panicked"), "{message}");

    let sha = Algorithm::Sha256;
    let outcome = std::panic::catch_unwind(|| digest_layer(Panicking, sha, sha, &Limits::default(), &Progress::new()));
    assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "the input panicked");
}

#[test]
fn cancelling_stops_at_the_next_buffer() {
    struct Endless<'a>(&'a Progress, u64);
    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += buffer.len() as u64;
            if self.1 > 10 << 20 {
                self.0.cancel();
            }
            // A file header, then data without end.
            let header = &LayerBuilder::new().raw_bytes(endless_header()).no_end_marker().tar()[..];
            buffer.fill(0);
            if self.1 == buffer.len() as u64 {
                buffer[..512].copy_from_slice(header);
            }
            Ok(buffer.len())
        }
    }
    let progress = Progress::new();
    let sha = Algorithm::Sha256;
    let error = digest_layer(Endless(&progress, 0), sha, sha, &Limits::default(), &progress).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    assert_eq!(error.class(), ErrorClass::Interrupted);
    assert!(progress.raw() < 12 << 20);
}

fn endless_header() -> [u8; 512] {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(1 << 60);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.as_old_mut().name[0] = b'f';
    header.set_cksum();
    *header.as_bytes()
}

/// A sink that takes some data of every file and remembers what it saw.
#[derive(Default)]
struct Partial(Vec<String>);

impl EntrySink for Partial {
    fn entry(&mut self, entry: &Entry<'_>, content: &mut dyn EntryContent) -> Result<(), Error> {
        let mut seen = format!("{} {:?}", String::from_utf8_lossy(entry.path), entry.kind);
        if let Kind::File { size } = entry.kind
            && let Some(extent) = content.next()?
        {
            assert!(extent.offset == 0 && extent.data.len() as u64 <= size);
            seen.push_str(" …");
        }
        self.0.push(seen);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.0.push("end".to_owned());
        Ok(())
    }
}

#[test]
fn any_sink_gets_the_entries_and_need_not_take_the_data() {
    let layer = builder().whiteout("d/gone").opaque("d").build(Compression::Gzip);
    let mut sink = Partial::default();
    let report = read(&layer.bytes, &mut sink).unwrap();
    assert_eq!(report.raw.digest, layer.diff_id);
    assert_eq!(
        sink.0,
        [
            "d Directory",
            "d/large File { size: 5000000 } …",
            "d/small File { size: 1 } …",
            "l Symlink { target: [100] }",
            "d/gone Whiteout",
            "d Opaque",
            "end"
        ]
    );
}

/// A sink that remembers on which threads it was used.
#[derive(Default)]
struct Threads(HashSet<ThreadId>);

impl EntrySink for Threads {
    fn entry(&mut self, _: &Entry<'_>, _: &mut dyn EntryContent) -> Result<(), Error> {
        self.0.insert(thread::current().id());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn a_small_layer_takes_the_thread_that_it_is_read_on_and_no_other() {
    let own = HashSet::from([thread::current().id()]);
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let small = LayerBuilder::new().file("f", noise(200_000)).build(compression);
        let mut sink = Threads::default();
        read(&small.bytes, &mut sink).unwrap();
        assert_eq!(sink.0, own, "{compression}");
        let mut sink = Threads::default();
        read(&builder().build(compression).bytes, &mut sink).unwrap();
        assert!(sink.0.is_disjoint(&own), "{compression}");
    }
}

/// Buffers of the blob are used up before there is anything to read in it.
#[test]
fn members_without_content_do_not_hold_up_what_follows() {
    let layer = builder().build(Compression::Gzip);
    let empty = GzEncoder::new(Vec::new(), flate2::Compression::fast())
        .finish()
        .unwrap();
    let mut blob = empty.repeat(100_000);
    blob.extend_from_slice(&layer.bytes);
    let report = digest(&blob).unwrap();
    assert_eq!(report.raw.digest, layer.diff_id);
    assert_eq!(
        (report.blob.digest, report.blob.size),
        (Digest::sha256(&blob), blob.len() as u64)
    );
}

#[test]
fn a_window_larger_than_the_limit_is_refused() {
    let tar = LayerBuilder::new().file("f", noise(3 << 20)).tar();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(&tar).unwrap();
    let blob = encoder.finish().unwrap();
    assert_eq!(digest(&blob).unwrap().raw.digest, Digest::sha256(&tar));
    let limits = Limits {
        zstd_window_log: 20,
        ..Limits::default()
    };
    let sha = Algorithm::Sha256;
    let error = digest_layer(&blob[..], sha, sha, &limits, &Progress::new()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Rejected);
    assert_eq!(error.to_string(), "the limit `zstd_window_log` of 20 is exceeded");
}

#[test]
fn the_report_survives_json() {
    let layer = LayerBuilder::new()
        .file(b"a\xff/b", "x")
        .file("/c", "x")
        .hardlink("l", "lower")
        .build(Compression::Gzip);
    let sandbox = Sandbox::new();
    let report = sandbox.extract_with(&layer.bytes, &Options::default()).unwrap();
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains(r#""implied_parents":["a\\xff"]"#), "{json}");
    assert!(json.contains(r#""name-absolute":{"count":1,"first":"/c"}"#), "{json}");
    assert_eq!(serde_json::from_str::<LayerReport>(&json).unwrap(), report);
}
