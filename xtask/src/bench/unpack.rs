//! A root filesystem of an image that is there already: `unlade unpack` from its store, `umoci raw unpack` from a layout.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::child::{self, Usage};
use super::disk::{Census, Disk, Filesystem};
use super::images::Image;
use super::peers::version;
use super::program::{self, Program};
use super::registry::Registry;
use super::statistics::{Spread, mebibytes};
use super::table::table;

/// One program, or umoci, on one image.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    image: &'static str,
    filesystem: Filesystem,
    program: String,
    wall_s: Spread,
    cpu_s: Spread,
    peak_mib: Spread,
    written_mib: Spread,
    /// What it made.
    made: Census,
    /// Its wall time over umoci's in the same run; none for umoci.
    of_umoci: Option<f64>,
    /// What that may be.
    budget: Option<f64>,
}

impl Row {
    /// Says so if it takes more of umoci's time than it may.
    pub(super) fn over_budget(&self) -> Option<String> {
        let (share, budget) = (self.of_umoci?, self.budget?);
        (share > budget).then(|| {
            format!(
                "{}, unpack of {} on {}: {share:.2} of umoci's time, the budget is {budget}",
                self.program, self.image, self.filesystem
            )
        })
    }
}

/// What is measured, `None` standing for umoci.
type Contender<'a> = Option<&'a Program>;

/// Unpacks every image `runs` times with each program, in turns, each time on a new filesystem on which the store or the
/// layout was filled before.
pub(super) fn measure(
    root: &Path,
    programs: &[Program],
    work: &Path,
    images: &[Image],
    filesystem: Filesystem,
    runs: u32,
) -> Result<Vec<Row>> {
    println!(
        "\nUnpack: of an image that is there, into a root filesystem on the same new {filesystem}, {runs} runs, in turns"
    );
    println!(
        "  umoci is {}; it inflates the layers and checks them again.",
        version("umoci", &["--version"])
    );
    let registry = Registry::start(work)?;
    let contenders: Vec<Contender<'_>> = programs.iter().map(Some).chain([None]).collect();
    let mut rows = Vec::new();
    for &image in images {
        let layout = image.prepare(root)?;
        let reference = registry.push(&layout, image.name())?;
        let mut seen: Vec<(Contender<'_>, Vec<Usage>, Census)> = contenders
            .iter()
            .map(|contender| (*contender, Vec::new(), Census::default()))
            .collect();
        for _ in 0..runs {
            for (contender, usages, made) in &mut seen {
                let disk = Disk::make(filesystem, work)?;
                let tree = disk.path().join("tree");
                let mut command = prepare(*contender, &reference, disk.path(), &tree)?;
                usages.push(child::watch(&mut command).context("cannot unpack")?);
                *made = Census::of(&tree)?;
            }
        }
        let median = |usages: &[Usage]| Spread::of(usages.iter().map(|usage| usage.wall.as_secs_f64())).median;
        let umoci = seen
            .last()
            .map(|(_, usages, _)| median(usages))
            .context("umoci did not run")?;
        let of_image: Vec<Row> = seen
            .iter()
            .map(|(contender, usages, made)| Row {
                image: image.name(),
                filesystem,
                program: contender.map_or_else(|| "umoci".to_owned(), |program| program.label.clone()),
                wall_s: Spread::of(usages.iter().map(|usage| usage.wall.as_secs_f64())),
                cpu_s: Spread::of(usages.iter().map(|usage| usage.cpu.as_secs_f64())),
                peak_mib: Spread::of(usages.iter().map(|usage| mebibytes(usage.peak))),
                // The filesystem that was made for this takes root, and root is told.
                written_mib: Spread::of(usages.iter().map(|usage| mebibytes(usage.written.unwrap_or_default()))),
                made: *made,
                of_umoci: contender.map(|_| median(usages) / umoci),
                budget: contender.map(|_| budget(filesystem)),
            })
            .collect();
        println!("\n{}: {}", image.name(), image.describe());
        print(&of_image);
        rows.extend(of_image);
    }
    Ok(rows)
}

/// Returns what part of umoci's time may be taken: where files can share their blocks no content is copied.
fn budget(filesystem: Filesystem) -> f64 {
    match filesystem {
        Filesystem::Xfs => 0.3,
        Filesystem::Ext4 | Filesystem::Tmpfs => 0.6,
    }
}

/// Brings the image to the filesystem, and returns the command that unpacks it.
fn prepare(contender: Contender<'_>, reference: &str, disk: &Path, tree: &Path) -> Result<Command> {
    if let Some(program) = contender {
        child::time(&mut program.pull(disk, reference))?;
        let mut command = program.command(disk);
        command.args(["unpack", "--progress", "none", reference]).arg(tree);
        return Ok(command);
    }
    let begin = |name: &str| {
        let mut command = Command::new(name);
        program::isolate(&mut command, disk);
        command
    };
    let layout = disk.join("layout");
    let mut skopeo = begin("skopeo");
    skopeo.args(["--insecure-policy", "--tmpdir"]).arg(disk);
    skopeo
        .args(["copy", "--src-tls-verify=false"])
        .arg(format!("docker://{reference}"));
    child::time(skopeo.arg(format!("oci:{}:bench", layout.display())))?;
    let mut umoci = begin("umoci");
    umoci
        .args(["raw", "unpack", "--image"])
        .arg(format!("{}:bench", layout.display()))
        .arg(tree);
    Ok(umoci)
}

fn print(rows: &[Row]) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.program.clone(),
                format!("{:.2}", row.wall_s.median),
                format!("{:.2}-{:.2}", row.wall_s.min, row.wall_s.max),
                row.of_umoci.map_or_else(String::new, |share| format!("{share:.2}")),
                format!("{:.2}", row.cpu_s.median),
                format!("{:.0}", row.peak_mib.max),
                format!("{:.0}", row.written_mib.median),
                row.made.entries.to_string(),
                format!("{:.0}", mebibytes(row.made.bytes)),
            ]
        })
        .collect();
    let head = [
        "",
        "wall s",
        "range",
        "of umoci",
        "cpu s",
        "peak MiB",
        "MiB written",
        "entries made",
        "MiB made",
    ];
    print!("{}", table(&head, &cells));
}
