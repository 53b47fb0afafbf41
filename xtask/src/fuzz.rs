//! `cargo xtask fuzz`: feeds the functions of `tests/fuzz` with what libFuzzer comes up with.
//!
//! Coverage is an instrumentation of LLVM's that the released compiler has, so nothing but a C++ compiler is needed beside
//! it. What reaches new code is kept in `target/fuzz/corpus`, and what breaks a promise in `target/fuzz/found`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const TARGETS: [&str; 4] = ["reference", "document", "layer", "inflate"];

/// What makes the compiler count which edges are taken, and which values are compared.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares";

/// How to fuzz.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to feed: reference, document, layer, inflate; all of them, one after the other, by default
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
    /// How long, for each
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Put the inputs that cover most into the repository's corpus instead
    #[arg(long, conflicts_with = "seconds")]
    collect: bool,
}

/// Builds the fuzzers of the workspace at `root` and runs them. A promise that breaks is an error.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    let directory = root.join("target/fuzz");
    let programs = build(root, &directory)?;
    let chosen: Vec<&str> = if args.targets.is_empty() {
        TARGETS.to_vec()
    } else {
        args.targets.iter().map(String::as_str).collect()
    };
    for target in chosen {
        let [corpus, found, collected] = ["corpus", "found", "collected"].map(|name| directory.join(name).join(target));
        let kept = root.join("tests/fuzz/corpus").join(target);
        for path in [&corpus, &found, &kept] {
            fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let mut fuzzer = Command::new(programs.join(format!("fuzz-{target}")));
        fuzzer.arg(format!("-artifact_prefix={}/", found.display())).args([
            "-timeout=30",
            "-rss_limit_mb=2048",
            "-max_len=32768",
            "-print_final_stats=1",
            "-verbosity=1",
        ]);
        if args.collect {
            // One after the other, since the set of before may hold what the new one does not need.
            let _absent = fs::remove_dir_all(&collected);
            fs::create_dir_all(&collected).with_context(|| format!("cannot make {}", collected.display()))?;
            check(fuzzer.arg("-set_cover_merge=1").arg(&collected).arg(&kept).arg(&corpus))?;
            replace(&kept, &collected)?;
        } else {
            println!("fuzzing {target} for {} s", args.seconds);
            check(
                fuzzer
                    .arg(format!("-max_total_time={}", args.seconds))
                    .arg(&corpus)
                    .arg(&kept),
            )
            .with_context(|| format!("a promise of {target} is broken; the input is in {}", found.display()))?;
        }
    }
    Ok(())
}

/// Builds the fuzzers and returns where they are.
fn build(root: &Path, directory: &Path) -> Result<std::path::PathBuf> {
    let host = host()?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(root)
        .args([
            "build",
            "--locked",
            "--package",
            "unlade-fuzz",
            "--features",
            "fuzzer",
            "--profile",
            "fuzz",
        ])
        // With a target named, build scripts and macros are built without the instrumentation.
        .args(["--target", &host])
        .arg("--target-dir")
        .arg(directory)
        .env("RUSTFLAGS", COVERAGE);
    check(&mut cargo)?;
    Ok(directory.join(host).join("fuzz"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout).context("rustc prints no UTF-8")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what it builds for")
}

fn check(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}

/// Makes `kept` hold the files of `collected` and no others.
fn replace(kept: &Path, collected: &Path) -> Result<()> {
    let files = |path: &Path| -> Result<Vec<_>> {
        let entries = fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
        Ok(entries.collect::<Result<_, _>>()?)
    };
    for entry in files(kept)? {
        fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
    }
    let entries = files(collected)?;
    for entry in &entries {
        let to = kept.join(entry.file_name());
        fs::copy(entry.path(), &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    println!("{} has {} inputs", kept.display(), entries.len());
    Ok(())
}
