//! What the command says about itself.

use crate::sandbox::{Ran, Sandbox};

#[test]
fn help_of_every_command() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!("short", sandbox.ok("-h"));
    insta::assert_snapshot!("long", sandbox.ok("--help"));
    for command in [
        "pull",
        "images",
        "inspect",
        "rm",
        "unpack",
        "mount",
        "umount",
        "export",
        "import",
        "prune",
        "df",
        "verify",
        "explain",
        "resolve",
        "tags",
        "login",
        "logout",
        "completions",
    ] {
        insta::assert_snapshot!(command, sandbox.ok(&format!("{command} -h")));
    }
}

#[test]
fn version() {
    assert_eq!(
        Sandbox::new().ok("--version"),
        concat!("unlade ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn completions_for_every_shell() {
    let sandbox = Sandbox::new();
    // They must not need a configuration that can be read.
    sandbox.configure("nonsense");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = sandbox.ok(&format!("completions {shell}"));
        assert!(script.contains("unlade") && script.contains("image-group"), "{shell}");
    }
}

#[test]
fn nothing_asked_is_a_usage_error_with_help() {
    let sandbox = Sandbox::new();
    let ran = Ran::of(&mut sandbox.command([""; 0]));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.contains("Usage: unlade"), "{}", ran.stderr);
}
