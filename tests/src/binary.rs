//! Finds the command under test, and makes sure that it is the one that the sources would give.
//!
//! Cargo tells a test where a binary is only within the package that has it (`CARGO_BIN_EXE_…`). A path that is guessed
//! may hold yesterday's binary, and then the tests pass or fail for reasons of yesterday. So: the command lies beside this
//! test, in the same profile of the same target directory, and Cargo has written next to it which files it was made from.
//! If one of them is newer or from another checkout, or the command is not there, Cargo builds it. Where that cannot be (another user, who may not
//! write there) the test fails.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

/// This package's directory, which lies in the root of the workspace.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the path of the current `unlade`, built with the profile of this test. Looks once a process.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let profile = profile_directory();
        let path = profile.join("unlade");
        if let Err(reason) = check(&profile, &main_of_command()) {
            build(&profile, &reason);
            assert!(path.is_file(), "cargo built no {}", path.display());
        }
        path
    })
}

/// Returns the directory with the results of the profile that this test was built with.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let deps = test
        .parent()
        .filter(|deps| deps.file_name() == Some(OsStr::new("deps")));
    let profile = deps.and_then(Path::parent);
    profile
        .unwrap_or_else(|| panic!("{} is not where cargo puts tests", test.display()))
        .to_owned()
}

/// Returns where this workspace has the first of the command's own files.
fn main_of_command() -> PathBuf {
    let root = Path::new(PACKAGE).parent().expect("a workspace around this package");
    root.join("crates/cli/src/main.rs")
}

/// Says why the command cannot be used as it is. `main` must be among the files that it was made from: several checkouts
/// may share a target directory.
fn check(profile: &Path, main: &Path) -> Result<(), String> {
    let path = profile.join("unlade");
    let Ok(built) = modified(&path) else {
        return Err(format!("{} is not there", path.display()));
    };
    let list = profile.join("unlade.d");
    let text = fs::read_to_string(&list).map_err(|error| format!("cannot read {}: {error}", list.display()))?;
    let sources = sources(&text);
    if !sources.iter().any(|source| source == main) {
        return Err(format!("{} was not made from {}", path.display(), main.display()));
    }
    for source in sources {
        match modified(&source) {
            Ok(changed) if changed <= built => {}
            Ok(_) => return Err(format!("{} is older than {}", path.display(), source.display())),
            Err(_) => {
                return Err(format!(
                    "{} was made from {}, which is gone",
                    path.display(),
                    source.display()
                ));
            }
        }
    }
    Ok(())
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

/// Reads a list of prerequisites as make writes them: `target: file file …`, with a backslash before a space in a name.
fn sources(text: &str) -> Vec<PathBuf> {
    let Some((_, list)) = text.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    let mut sources = Vec::new();
    let mut name = String::new();
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => name.extend(characters.next()),
            ' ' => sources.push(std::mem::take(&mut name)),
            other => name.push(other),
        }
    }
    sources.push(name);
    sources
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// Lets Cargo build the command. Tests that run at the same time wait for each other at Cargo's own lock.
fn build(profile: &Path, reason: &str) {
    let name = match profile.file_name().and_then(OsStr::to_str) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} is no directory of a profile", profile.display()),
    };
    let target = profile.parent().expect("a profile lies in a target directory");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(PACKAGE)
        .args([
            "build",
            "--quiet",
            "--package",
            "unlade",
            "--bin",
            "unlade",
            "--profile",
            name,
        ])
        .arg("--target-dir")
        .arg(target)
        .stdin(Stdio::null());
    let output = cargo.output();
    let failure = match &output {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    panic!("{reason}, and `cargo build --package unlade` failed:\n{failure}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prerequisites_are_read() {
        assert_eq!(
            sources("/t/debug/unlade: /w/a.rs /w/with\\ space.rs /w/b.sql\n"),
            ["/w/a.rs", "/w/with space.rs", "/w/b.sql"].map(PathBuf::from)
        );
        assert!(sources("").is_empty());
    }

    #[test]
    fn a_command_that_is_missing_old_or_of_unknown_origin_is_not_used() {
        let profile = tempfile::tempdir().unwrap();
        let path = |name: &str| profile.path().join(name);
        let check = || check(profile.path(), &path("source.rs"));
        assert!(check().unwrap_err().ends_with("unlade is not there"));

        fs::write(path("source.rs"), "").unwrap();
        fs::write(path("unlade"), "").unwrap();
        assert!(check().unwrap_err().starts_with("cannot read"));

        fs::write(path("unlade.d"), "unlade: /elsewhere/source.rs\n").unwrap();
        assert!(check().unwrap_err().contains("was not made from"));

        let list = format!("unlade: {}\n", path("source.rs").display());
        fs::write(path("unlade.d"), list).unwrap();
        let at = |name: &str, seconds: u64| {
            let file = fs::File::options().append(true).open(path(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
                .unwrap();
        };
        at("source.rs", 100);
        at("unlade", 200);
        assert_eq!(check(), Ok(()));
        at("source.rs", 201);
        assert!(check().unwrap_err().contains("is older than"));
        fs::remove_file(path("source.rs")).unwrap();
        assert!(check().unwrap_err().ends_with("which is gone"));
    }
}
