//! Progress goes to stderr in the form asked for, and never to stdout.

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, registry};

#[test]
fn json_lines_tell_every_task_from_start_to_end() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let ran = sandbox.run(&format!("pull --progress json {}/x:1", registry.host()));
    assert_eq!(ran.code, Some(0));
    let events: Vec<Value> = ran.stderr.lines().map(|line| line.parse().unwrap()).collect();
    assert!(events.iter().all(|event| event["v"] == 1), "{}", ran.stderr);
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    let tasks = |kind: &str| {
        let mut tasks: Vec<_> = of(kind).iter().map(|event| event["task"].as_u64().unwrap()).collect();
        tasks.sort_unstable();
        tasks
    };
    assert_eq!(
        tasks("started").len(),
        1 + 2 + 2,
        "a name, two downloads, two extractions"
    );
    assert_eq!(tasks("started"), tasks("finished"));
    assert!(
        of("finished")
            .iter()
            .all(|event| event["outcome"] == "done" && event["bytes"] == event["total"])
    );
    assert_eq!(of("planned").len(), 1);
    let end = events.last().unwrap();
    assert_eq!(
        (&end["event"], &end["outcome"], &end["layers_done"]),
        (&"ended".into(), &"done".into(), &2.into())
    );
    assert!(ran.stdout.starts_with(&registry.host()));
}

#[test]
fn a_failed_pull_ends_its_tasks_and_tells_so() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    registry.fault(unlade_test_support::Fault::on_blobs().status(404));
    let ran = sandbox.run(&format!("pull --progress json --format json {}/x:1", registry.host()));
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let lines: Vec<Value> = ran.stderr.lines().map(|line| line.parse().unwrap()).collect();
    let [.., end, error] = &lines[..] else {
        panic!("{}", ran.stderr)
    };
    assert_eq!((&end["event"], &end["outcome"]), (&"ended".into(), &"stopped".into()));
    assert_eq!(error["class"], "not-found");
    let count = |kind: &str| lines.iter().filter(|line| line["event"] == kind).count();
    assert_eq!(count("started"), count("finished"));
}

#[test]
fn elsewhere_than_on_a_terminal_there_are_lines() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    for (how, lines) in [("auto", 2), ("plain", 2), ("tty", 2), ("none", 0)] {
        sandbox.run(&format!("rm {}/x:1", registry.host())).code.unwrap();
        let ran = sandbox.run(&format!("pull --progress {how} {}/x:1", registry.host()));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), lines, "{how}: {}", ran.stderr);
        assert!(!ran.stderr.contains('\u{1b}'), "{how}: {:?}", ran.stderr);
    }
}

#[test]
fn who_reads_json_is_not_told_in_lines_for_people() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let ran = sandbox.run(&format!("pull --format json {}/x:1", registry.host()));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn colour_is_for_terminals_unless_it_is_forced() {
    let sandbox = Sandbox::new();
    let stderr =
        |variables: &[(&str, &str)]| Ran::of(sandbox.command(["pull", "a b"]).envs(variables.iter().copied())).stderr;
    assert!(!stderr(&[]).contains('\u{1b}'));
    assert!(stderr(&[("CLICOLOR_FORCE", "1")]).contains("\u{1b}[1m"));
    assert!(!stderr(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'));
}
