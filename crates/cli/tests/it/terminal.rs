//! Bars, on a terminal that is real enough.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use unlade_test_support::{Compression, FakeRegistry, Fault, ImageBuilder, LayerBuilder};

use crate::sandbox::{Sandbox, platform, registry};

/// Opens a terminal of 100 columns and 12 rows: our end, and the command's.
pub(crate) fn terminal() -> (File, File) {
    let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    tcsetwinsize(
        &ours,
        Winsize {
            ws_row: 12,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    (ours.into(), File::options().read(true).write(true).open(path).unwrap())
}

/// Runs the command, which must succeed, with stderr on a terminal. Returns what it wrote to stdout and to there.
fn run(mut command: Command) -> (String, String) {
    let (mut ours, theirs) = terminal();
    let child = command
        .stdout(Stdio::piped())
        .stderr(theirs)
        .env("TERM", "xterm")
        .spawn()
        .unwrap();
    // Its copy of the command's end keeps the terminal open, and the read below going.
    drop(command);
    let reader = thread::spawn(move || {
        let mut shown = Vec::new();
        let mut buffer = [0; 4096];
        // When the last one who has it open is gone, reading fails.
        while let Ok(count @ 1..) = ours.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    let output = child.wait_with_output().unwrap();
    let shown = reader.join().unwrap();
    assert!(output.status.success(), "{shown}");
    (String::from_utf8(output.stdout).unwrap(), shown)
}

/// A registry that takes about a second for each of 20 layers.
fn slow() -> FakeRegistry {
    let registry = FakeRegistry::start();
    let layer = |n: u32| {
        LayerBuilder::new()
            .file(format!("f{n}"), vec![b'x'; 60_000])
            .build(Compression::None)
    };
    registry.fault(Fault::on_blobs().trickle(6_000, Duration::from_millis(60)));
    let image = ImageBuilder::new()
        .platform(&platform())
        .layers((0..20).map(layer))
        .build();
    registry.push("team/x", "1", &image);
    registry
}

#[test]
fn bars_are_drawn_and_taken_away() {
    let (sandbox, registry) = (Sandbox::new(), slow());
    sandbox.configure(&format!(
        "connections = 20\n[aliases]\n\"short.example\" = \"{}\"\n",
        registry.host()
    ));
    let (stdout, shown) = run(sandbox.command(["pull", "short.example/team/x:1"]));
    assert_eq!(stdout.lines().count(), 21);
    assert!(!stdout.contains('\u{1b}'), "{stdout:?}");
    for part in [
        "downloading",
        "/20 done",
        "more under way",
        "\u{1b}[1m\u{1b}[33mwarning:",
        "20 layers in place",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown:?}");
    }
    // At most nine layers, one line about the rest and the total are drawn at once on twelve rows.
    assert!(
        shown.contains("11 more under way") || shown.contains("12 more under way"),
        "{shown:?}"
    );
}

#[test]
fn what_is_quick_draws_nothing() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let reference = registry.reference("x", "1");
    let (cold, _) = run(sandbox.command(["pull", &reference]));
    let (warm, shown) = run(sandbox.command(["pull", &reference]));
    assert_eq!((warm, shown), (cold, String::new()));
}

#[test]
fn no_colour_if_it_is_not_wanted() {
    let (sandbox, registry) = (Sandbox::new(), slow());
    let mut command = sandbox.command(["pull", &registry.reference("team/x", "1")]);
    command.env("NO_COLOR", "1");
    let (_, shown) = run(command);
    // What ends in `m` sets a colour or a weight; the other sequences move the cursor and clear lines.
    let is_style = |sequence: &str| {
        sequence
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
            .starts_with('m')
    };
    assert!(shown.contains("downloading"), "{shown:?}");
    assert!(!shown.split("\u{1b}[").skip(1).any(is_style), "{shown:?}");
}
