//! Runs the other tests again under other circumstances: as a user without privilege, with another umask.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::sandbox::is_root;

/// The user that owns nothing.
const NOBODY: u32 = 65534;

/// Runs tests again with `umask`, those that `filter` names.
fn again(user: u32, umask: &str, filter: &[&str]) {
    if !is_root() {
        return;
    }
    // The build directory may not be open to others.
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = temp.path().join("it");
    fs::copy("/proc/self/exe", &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("umask {umask} && exec \"$0\" \"$@\"")])
        .arg(&copy)
        .args([
            "--test-threads",
            "2",
            "--skip",
            "unprivileged::",
            "--skip",
            "privileged_",
        ])
        .args(filter)
        .current_dir(temp.path())
        .uid(user)
        .gid(user)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("test result: ok") && !text.contains("running 0 tests"),
        "{text}"
    );
}

#[test]
fn everything_again_without_root() {
    again(NOBODY, "077", &["--skip", "differential::"]);
}

#[test]
fn real_archives_again_without_root() {
    again(NOBODY, "077", &["differential::"]);
}

#[test]
fn attributes_again_with_an_umask_that_takes_everything() {
    again(0, "777", &["attributes::"]);
}

#[test]
fn attributes_again_with_no_umask() {
    again(0, "000", &["attributes::"]);
}
