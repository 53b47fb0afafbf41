//! Extracts a layer file into a directory, or digests it without one, and prints how fast that went.
//!
//! ```text
//! cargo run --release -p unlade-extract --example extract_layer -- layer.tar.gz [DIRECTORY]
//! ```

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use unlade_extract::{Options, Progress, digest_layer, extract_layer};
use unlade_oci::Algorithm;
use unlade_sys::Dir;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let layer = arguments.next().ok_or("which layer? extract_layer LAYER [DIRECTORY]")?;
    let input = File::open(&layer)?;
    let (options, progress, sha256) = (Options::default(), Progress::new(), Algorithm::Sha256);
    let start = Instant::now();
    let report = match arguments.next() {
        Some(directory) => {
            let target = open(&directory)?;
            extract_layer(input, &target, sha256, sha256, &options, &progress)?
        }
        None => digest_layer(input, sha256, sha256, &options.limits, &progress)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |bytes: u64| bytes as f64 / 1e6 / seconds;
    writeln!(
        std::io::stdout(),
        "{seconds:.3} s, {} entries, {} {:.0} MB/s compressed, {:.0} MB/s raw\nblob    {}\ndiff ID {}\n{:?}",
        report.entries,
        report.compression,
        rate(report.blob.size),
        rate(report.raw.size),
        report.blob.digest,
        report.raw.digest,
        report.summary.notes,
    )?;
    Ok(())
}

/// Opens the directory, which is made if it is not there.
fn open(path: &Path) -> unlade_sys::Result<Dir> {
    match Dir::create(path, 0o755) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Dir::open(path),
        other => other,
    }
}
