//! Instructions of fixed pieces of the work, counted by valgrind and held against committed numbers.
//!
//! A count is the same on a busy machine as on an idle one, and from one machine of an architecture to the next: valgrind
//! shows programs a processor without SHA and AVX-512 instructions, whatever the real one has. What a count does not see is
//! time in the kernel, waiting, and memory that is not in the cache.
//!
//! All but one are pieces of a program of their own (`tests/pieces`), built with optimisations on top of dependencies that the tests
//! have built anyway. The warm path is the whole command as the tests run it, without optimisations of its own code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use unlade_oci::Compression;
use unlade_test_support::{FakeRegistry, LayerBuilder, fixtures};

use super::table::table;
use super::{child, program};
use crate::test::has_program;

/// The committed numbers.
const NUMBERS: &str = "xtask/instructions.toml";
const HEAD: &str = "\
# Instructions of fixed pieces of the work, as `cargo xtask bench instructions --check` compares them.
# Written by `cargo xtask bench instructions --bless`; say in the commit why they change.
";
/// By how much a count may differ from the committed one, in percent.
const TOLERANCE: u64 = 5;

/// What is counted, and what it is.
const PIECES: [(&str, &str); 7] = [
    ("reference", "parse 16,000 references"),
    ("hash", "hash an archive of 2,000 entries"),
    ("tar", "read that archive, beside hashing it"),
    ("gzip", "inflate it from gzip, beside that"),
    ("zstd", "decompress it from zstd, beside that"),
    ("extract", "make its files, beside reading it"),
    ("warm", "the whole command: a pull of an image that is in the store"),
];

/// The packages of ours that the pieces consist of.
const PACKAGES: [&str; 5] = [
    "unlade-oci",
    "unlade-sys",
    "unlade-reference",
    "unlade-extract",
    "unlade-pieces",
];

/// One piece.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    piece: &'static str,
    what: &'static str,
    instructions: u64,
    /// The committed number; none where there is none that this machine can be held against.
    committed: Option<u64>,
}

impl Row {
    /// Returns the difference from the committed number in percent.
    fn difference(&self) -> Option<f64> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share, shown with one digit after the point"
        )]
        self.committed
            .map(|committed| (self.instructions as f64 / committed as f64 - 1.0) * 100.0)
    }

    /// Says so if it differs by too much, in either direction: fewer are a new number to hold on to.
    pub(super) fn over_budget(&self) -> Option<String> {
        let (difference, committed) = (self.difference()?, self.committed?);
        if self.instructions.abs_diff(committed) * 100 <= committed * TOLERANCE {
            return None;
        }
        Some(format!(
            "{}: {} instructions, {difference:+.1} % beside {committed} committed, more than {TOLERANCE} % apart; if that is meant, \
             write new numbers with `cargo xtask bench instructions --bless`",
            self.piece, self.instructions
        ))
    }
}

/// The numbers of one architecture, and what they were counted with.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Numbers {
    /// What another one makes of the same sources is another program.
    compiler: String,
    pieces: BTreeMap<String, u64>,
}

/// Counts all pieces, or says which it cannot count and why. With `bless` the counts become the committed numbers.
pub(super) fn measure(root: &Path, target: &Path, work: &Path, bless: bool) -> Result<Vec<Row>> {
    println!("\nInstructions: fixed pieces of the work under valgrind, on one simulated processor");
    if !has_program("valgrind") {
        let names = PIECES.map(|(name, _)| name).join(", ");
        let count = PIECES.len();
        ensure!(
            !bless,
            "valgrind is missing; as root: apt-get install --no-install-recommends valgrind"
        );
        println!("  {count} of {count} cannot be counted, since valgrind is not installed: {names}");
        return Ok(Vec::new());
    }
    let compiler = compiler()?;
    let mut committed = read(root)?;
    let architecture = std::env::consts::ARCH;
    let comparable = match (
        committed.get(architecture),
        unlike(&fs::read_to_string("/proc/cpuinfo")?),
    ) {
        (_, Some(lack)) => Err(format!("this processor has no {lack}, so other code runs on it")),
        (None, None) => Err(format!("there are no numbers for {architecture}")),
        (Some(numbers), None) if numbers.compiler != compiler => Err(format!(
            "the committed ones are of {}, this is {compiler}",
            numbers.compiler
        )),
        (Some(numbers), None) => Ok(numbers),
    };
    let counts = count_all(root, target, work)?;
    let rows: Vec<Row> = PIECES
        .into_iter()
        .zip(counts)
        .map(|((piece, what), instructions)| Row {
            piece,
            what,
            instructions,
            committed: comparable
                .as_ref()
                .ok()
                .and_then(|numbers| numbers.pieces.get(piece).copied()),
        })
        .collect();
    print(&rows);
    if bless {
        ensure!(
            unlike(&fs::read_to_string("/proc/cpuinfo")?).is_none(),
            "numbers of this processor are of no use on others"
        );
        let pieces = rows
            .iter()
            .map(|row| (row.piece.to_owned(), row.instructions))
            .collect();
        committed.insert(architecture.to_owned(), Numbers { compiler, pieces });
        write(root, &committed)?;
        println!("  {NUMBERS} has these numbers now");
        return Ok(Vec::new());
    }
    let without = rows.iter().filter(|row| row.committed.is_none()).count();
    if without > 0 {
        let reason = comparable
            .err()
            .unwrap_or_else(|| format!("{NUMBERS} does not have them"));
        println!("  {without} of {} cannot be compared: {reason}", rows.len());
    }
    Ok(rows)
}

fn count_all(root: &Path, target: &Path, work: &Path) -> Result<[u64; PIECES.len()]> {
    let pieces = build(root, target)?;
    let home = tempfile::Builder::new().prefix("instructions-").tempdir_in(work)?;
    let home = home.path();
    let piece = |arguments: &[&Path]| {
        let mut command = Command::new(&pieces);
        program::isolate(&mut command, home);
        command.args(arguments);
        count(&command, home)
    };
    let file = |compression, name| {
        let path = home.join(name);
        fs::write(&path, layer().build(compression).bytes)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok::<_, anyhow::Error>(path)
    };
    let plain = file(Compression::None, "plain")?;
    let [gzip, zstd] = [file(Compression::Gzip, "gzip")?, file(Compression::Zstd, "zstd")?];

    let unlade = program::Program::unoptimised(root, target)?;
    let registry = FakeRegistry::start();
    registry.push("web", "latest", &fixtures::web());
    let reference = registry.reference("web", "latest");
    // Which level of processor an image is wanted for is seen from the processor, and the simulated one is another.
    let pull = || {
        let mut command = unlade.pull(home, &reference);
        command.args(["--platform", "linux/amd64"]);
        command
    };
    child::time(&mut pull())?;
    registry.clear();
    let warm = count(&pull(), home)?;
    let requests = registry.requests().len();
    ensure!(
        requests == 0,
        "the warm path asked the registry {requests} times, so it was not answered from the store"
    );
    let read = |layer: &PathBuf| piece(&["read".as_ref(), layer]);
    let reference = piece(&["reference".as_ref()])?;
    let hash = piece(&["hash".as_ref(), &plain])?;
    let tar = read(&plain)?;
    let (gzip, zstd) = (read(&gzip)?, read(&zstd)?);
    let extract = piece(&["extract".as_ref(), &plain, &home.join("tree")])?;
    // Hashing alone is most of the whole, so what comes on top is told by the difference: it would hide behind the sum.
    let beside = |whole: u64, part: u64| whole.checked_sub(part).context("a whole took less than its part");
    Ok([
        reference,
        hash,
        beside(tar, hash)?,
        beside(gzip, tar)?,
        beside(zstd, tar)?,
        beside(extract, tar)?,
        warm,
    ])
}

/// A layer of many small files, links and directories, always the same bytes.
fn layer() -> LayerBuilder {
    const WORDS: [&str; 8] = [
        "layer",
        "digest",
        "of",
        "the",
        "registry\n",
        "blob",
        "manifest",
        "unlade",
    ];
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    let mut layer = LayerBuilder::new().dir("usr", 0o755).dir("usr/share", 0o755);
    for directory in 0..40 {
        let path = format!("usr/share/package-{directory}");
        layer = layer.dir(&path, 0o755);
        for file in 0..40 {
            let words = random() % 64;
            let content: String = (0..words).map(|_| WORDS[random() % WORDS.len()]).collect();
            layer = layer.file_with(format!("{path}/file-{file}.txt"), content, |entry| {
                entry.mode(0o644).mtime(1_700_000_000)
            });
        }
        for link in 0..8 {
            layer = layer.symlink(format!("{path}/link-{link}"), format!("file-{link}.txt"));
        }
        layer = layer.hardlink(format!("{path}/second"), format!("{path}/file-0.txt"));
    }
    layer
}

/// Runs a command under valgrind and returns how many instructions its threads have executed together.
fn count(command: &Command, home: &Path) -> Result<u64> {
    let counts = home.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind"]);
    valgrind.arg(format!("--callgrind-out-file={}", counts.display()));
    valgrind.arg(command.get_program()).args(command.get_args());
    valgrind.env_clear();
    valgrind.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    child::time(&mut valgrind)?;
    let text = fs::read_to_string(&counts).with_context(|| format!("cannot read {}", counts.display()))?;
    total(&text).with_context(|| format!("{} has no sum", counts.display()))
}

/// Finds the sum in what callgrind writes.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("totals:"))?;
    line.trim().parse().ok()
}

/// Builds the pieces with optimisations, upon the dependencies of the `dev` profile as the whole workspace wants them.
fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["build", "--quiet", "--workspace", "--bin", "unlade-pieces"])
        // What is inlined, and so what is counted, depends on how the source is cut into units: always into one.
        .env("CARGO_INCREMENTAL", "0")
        .stdin(Stdio::null());
    for package in PACKAGES {
        for setting in [
            "opt-level=2",
            "codegen-units=1",
            "debug-assertions=false",
            "overflow-checks=false",
        ] {
            command.args(["--config", &format!("profile.dev.package.{package}.{setting}")]);
        }
    }
    println!("  $ cargo build --bin unlade-pieces, with optimisations");
    ensure!(
        command.status().context("cannot run cargo")?.success(),
        "unlade-pieces does not build"
    );
    // Away from where the next build of the workspace puts its own.
    let (built, kept) = (target.join("debug/unlade-pieces"), target.join("bench/unlade-pieces"));
    fs::copy(&built, &kept).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(kept)
}

/// Names what the processor lacks of what the committed numbers were counted with.
fn unlike(cpuinfo: &str) -> Option<&'static str> {
    if std::env::consts::ARCH != "x86_64" {
        return None;
    }
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags"))?;
    ["avx2", "bmi2", "pclmulqdq"]
        .into_iter()
        .find(|wanted| !flags.split_whitespace().any(|flag| flag == *wanted))
}

/// Returns the version of the compiler.
fn compiler() -> Result<String> {
    let output = Command::new("rustc")
        .arg("--version")
        .output()
        .context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout).context("rustc prints no UTF-8")?;
    let version: Vec<&str> = text.split_whitespace().take(2).collect();
    ensure!(version.len() == 2, "rustc does not say its version: {text}");
    Ok(version.join(" "))
}

fn read(root: &Path) -> Result<BTreeMap<String, Numbers>> {
    let path = root.join(NUMBERS);
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{NUMBERS} is not as it was written")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => bail!("cannot read {}: {error}", path.display()),
    }
}

fn write(root: &Path, numbers: &BTreeMap<String, Numbers>) -> Result<()> {
    let mut text = HEAD.to_owned();
    write!(text, "\n{}", toml::to_string(numbers)?)?;
    let path = root.join(NUMBERS);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn print(rows: &[Row]) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let known = |number: Option<String>| number.unwrap_or_else(|| "?".to_owned());
            vec![
                format!("{}: {}", row.piece, row.what),
                row.instructions.to_string(),
                known(row.committed.map(|number| number.to_string())),
                known(row.difference().map(|difference| format!("{difference:+.1} %"))),
            ]
        })
        .collect();
    print!("{}", table(&["", "instructions", "committed", "difference"], &cells));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(instructions: u64, committed: Option<u64>) -> Row {
        Row {
            piece: "reference",
            what: "",
            instructions,
            committed,
        }
    }

    #[test]
    fn a_twentieth_more_or_less_is_let_through() {
        for sound in [950, 1000, 1050] {
            assert_eq!(row(sound, Some(1000)).over_budget(), None, "{sound}");
        }
        for other in [949, 1051] {
            let message = row(other, Some(1000)).over_budget().unwrap();
            assert!(message.contains("--bless"), "{message}");
        }
        assert_eq!(row(7, None).over_budget(), None);
    }

    #[test]
    fn the_sum_is_found() {
        assert_eq!(total("events: Ir\nsummary: 41\n\nfn=(1)\ntotals: 42\n"), Some(42));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn every_piece_has_a_committed_number_and_no_other_has() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut names = PIECES.map(|(name, _)| name.to_owned());
        names.sort();
        for (architecture, numbers) in read(root).unwrap() {
            assert_eq!(numbers.pieces.into_keys().collect::<Vec<_>>(), names, "{architecture}");
        }
    }

    #[test]
    fn the_input_never_changes() {
        let digest = unlade_oci::Digest::sha256(layer().tar());
        assert_eq!(
            digest.to_string(),
            "sha256:b0cd8e34f098196c95802f5c5e742edfc563784140bd6889c59c94b8e6ceaf13"
        );
    }
}
