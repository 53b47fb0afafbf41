//! One large blob over one connection and over four: from a server that caps each connection, and from one that does not.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use unlade_oci::{Algorithm, Digest, Hasher, MediaType};
use unlade_test_support::{FakeRegistry, Fault};

use super::child;
use super::program::Program;
use super::statistics::Spread;
use super::table::table;

/// The size of the blob's one file.
const BYTES: u64 = 500_000_000;
/// What a capped connection gets: so many bytes after each pause. A pause takes a millisecond more than it should, which
/// makes 20 MB/s.
const CAP: (usize, Duration) = (250_000, Duration::from_micros(11_500));
const REPOSITORY: &str = "bench/ranges";
/// How much faster four ranges must be where each connection is capped.
const GAIN: f64 = 3.0;
/// How much longer they may take where none is.
const COST: f64 = 1.05;

/// One server.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    program: String,
    capped: bool,
    one_s: Spread,
    four_s: Spread,
    /// Time over one connection by time over four.
    gain: f64,
}

/// Says which rows miss their aim.
pub(super) fn over_budget(rows: &[Row]) -> impl Iterator<Item = String> {
    rows.iter().filter_map(|row| match row.capped {
        true if row.gain < GAIN => Some(format!(
            "{}: four ranges are {:.2} times as fast where connections are capped, the aim is {GAIN}",
            row.program, row.gain
        )),
        false if row.gain * COST < 1.0 => Some(format!(
            "{}: four ranges take {:.2} times as long where nothing is capped, the limit is {COST}",
            row.program,
            1.0 / row.gain
        )),
        _ => None,
    })
}

/// Pulls without extraction; the blob is still hashed, twice.
pub(super) fn measure(programs: &[Program], work: &Path, runs: u32) -> Result<Vec<Row>> {
    println!("\nRanges: `unlade pull --no-extract` of one blob of 500 MB, over one connection and over four");
    let registry = FakeRegistry::start();
    let directory = tempfile::Builder::new().prefix("ranges-").tempdir_in(work)?;
    let (reference, blob) = serve(&registry, directory.path())?;
    let mut rows = Vec::new();
    for program in programs {
        for capped in [true, false] {
            registry.clear_faults();
            if capped {
                registry.fault(Fault::on_blob(&blob).trickle(CAP.0, CAP.1));
            }
            // What is capped does not vary, and takes its time.
            let runs = if capped { runs.min(2) } else { runs };
            let (mut one, mut four) = (Vec::new(), Vec::new());
            for _ in 0..runs {
                for (ranges, times) in [("1", &mut one), ("4", &mut four)] {
                    let home = tempfile::Builder::new().prefix("ranges-").tempdir_in(work)?;
                    let mut command = program.pull(home.path(), &reference);
                    command.args(["--no-extract", "--ranges", ranges]);
                    times.push(child::time(&mut command)?.as_secs_f64());
                }
            }
            let (one_s, four_s) = (Spread::of(one), Spread::of(four));
            rows.push(Row {
                program: program.label.clone(),
                capped,
                one_s,
                four_s,
                gain: one_s.median / four_s.median,
            });
        }
    }
    print(&rows);
    Ok(rows)
}

/// Puts an image with one uncompressed layer into the registry. Returns the reference and the layer's digest.
fn serve(registry: &FakeRegistry, directory: &Path) -> Result<(String, Digest)> {
    let path = directory.join("layer.tar");
    let (digest, size) = layer(&path).with_context(|| format!("cannot write {}", path.display()))?;
    registry.push_blob_file(REPOSITORY, &digest, &path);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]},
    })
    .to_string();
    let config_digest = registry.push_blob(REPOSITORY, config.clone());
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST.as_str(),
        "config": {"mediaType": MediaType::OCI_CONFIG.as_str(), "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": MediaType::OCI_LAYER.as_str(), "digest": digest, "size": size}],
    });
    let manifest = registry.push_manifest(REPOSITORY, MediaType::OCI_MANIFEST.as_str(), manifest.to_string());
    registry.tag(REPOSITORY, "latest", &manifest);
    Ok((registry.reference(REPOSITORY, "latest"), digest))
}

/// Writes a tar archive with one file. Returns its digest and size.
fn layer(path: &Path) -> Result<(Digest, u64)> {
    let mut header = tar::Header::new_gnu();
    header.set_path("model.bin")?;
    header.set_size(BYTES);
    header.set_mode(0o644);
    header.set_cksum();
    let mut out = Hashed {
        file: BufWriter::new(File::create(path)?),
        hasher: Hasher::new(Algorithm::Sha256),
        size: 0,
    };
    out.write_all(header.as_bytes())?;
    // Any bytes will do: nothing is compressed.
    let block: Vec<u8> = (0..=u8::MAX).cycle().take(1_000_000).collect();
    for _ in 0..BYTES / 1_000_000 {
        out.write_all(&block)?;
    }
    let padding = BYTES.next_multiple_of(512) - BYTES;
    out.write_all(&vec![0; usize::try_from(padding)? + 1024])?;
    out.flush()?;
    Ok((out.hasher.finish(), out.size))
}

struct Hashed {
    file: BufWriter<File>,
    hasher: Hasher,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn print(rows: &[Row]) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let server = if row.capped { "20 MB/s a connection" } else { "no cap" };
            vec![
                format!("{}: {server}", row.program),
                format!("{:.2}", row.one_s.median),
                format!("{:.2}", row.four_s.median),
                format!("{:.2}", row.gain),
            ]
        })
        .collect();
    print!("{}", table(&["", "one connection s", "four s", "gain"], &cells));
    println!("  The server shares the machine.");
}
