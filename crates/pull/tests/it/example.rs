//! The example program, as an embedder would run it.

use std::process::Command;

use crate::support::{Home, serve, small_image};

#[test]
fn the_example_pulls_an_image_with_progress() {
    let (_registry, reference) = serve(&small_image());
    let home = Home::new();
    let example = std::env::current_exe().unwrap();
    let example = example.parent().unwrap().parent().unwrap().join("examples/embed");
    let output = Command::new(&example)
        .arg(home.directory.path())
        .arg(&reference)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}; build the examples first", example.display()));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    for line in stdout.lines() {
        assert!(std::path::Path::new(line).is_dir(), "{line}");
    }
    assert!(stderr.contains("3 layers to bring in"), "{stderr}");
    assert!(stderr.contains("done"), "{stderr}");
}
