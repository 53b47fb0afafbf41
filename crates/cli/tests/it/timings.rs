//! `pull --timings` and `pull --trace`.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::sandbox::{Sandbox, image, registry};

const LAYER: [&str; 8] = [
    "claim", "receive", "write", "read", "hash", "inflate", "files", "commit",
];

#[test]
fn the_report_names_every_stage_of_every_layer() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let ran = sandbox.run(&format!("pull --timings --progress none {}/x:1", registry.host()));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let words: Vec<&str> = ran
        .stderr
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let image = image();
    let digests: Vec<_> = image
        .layers
        .iter()
        .map(|digest| digest.to_string()[..19].to_owned())
        .collect();
    let mut expected = vec![
        "STAGE", "pull", "look-up", "resolve", "plan", "stack", "record", "sweep", "flush",
    ];
    for digest in &digests {
        expected.push(digest);
        expected.extend(LAYER);
    }
    assert_eq!(words, expected, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("timings, in seconds: "), "{}", ran.stderr);
    assert!(ran.stdout.starts_with(&registry.host()) && !ran.stdout.contains("STAGE"));

    let warm = sandbox.run(&format!("pull --timings {}/x:1", registry.host()));
    let stages = warm
        .stderr
        .lines()
        .skip(3)
        .filter_map(|line| line.split_whitespace().next());
    assert_eq!(stages.collect::<Vec<_>>(), ["look-up", "flush"], "{}", warm.stderr);
}

#[test]
fn for_programs_the_report_is_an_object() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let ran = sandbox.run(&format!("pull --timings --format json {}/x:1", registry.host()));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report: Value = ran.stderr.parse().unwrap();
    assert_eq!((&report["v"], &report["event"]), (&1.into(), &"timings".into()));
    let wall = report["seconds"].as_f64().unwrap();
    let parts = report["parts"].as_array().unwrap();
    assert_eq!(parts[0]["part"], "pull");
    assert_eq!(parts.len(), 3);
    for (part, digest) in parts[1..].iter().zip(&image().layers) {
        assert_eq!(part["part"], digest.to_string());
        let stages = part["stages"].as_array().unwrap();
        assert!(stages.iter().map(|stage| stage["stage"].as_str().unwrap()).eq(LAYER));
        for stage in stages {
            let number = |name: &str| stage[name].as_f64().unwrap();
            let waited = stage["waited_seconds"].as_object().unwrap();
            let waited: f64 = waited.values().map(|seconds| seconds.as_f64().unwrap()).sum();
            assert!(number("ended") <= wall, "{stage}");
            // What is added up is not quite what it was as one number.
            let span = number("ended") - number("began") + 1e-6;
            assert!(number("busy_seconds") + waited <= span, "{stage}");
        }
        let bytes = |at: usize| stages[at]["bytes"].as_u64().unwrap();
        assert!(bytes(1) > 0 && (1..4).all(|at| bytes(at) == bytes(1)), "{part}");
        assert!(bytes(5) > bytes(1) && bytes(6) == bytes(5), "{part}");
        assert_eq!(bytes(4), bytes(1) + bytes(5), "{part}");
    }
}

#[test]
fn a_trace_is_what_a_viewer_of_traces_reads() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let ran = sandbox.run(&format!(
        "pull --trace pull.json --progress none {}/x:1",
        registry.host()
    ));
    assert_eq!(
        (ran.code, &ran.stderr[..]),
        (Some(0), ""),
        "without --timings nothing is shown"
    );
    let trace: Value = fs::read_to_string(sandbox.path("pull.json")).unwrap().parse().unwrap();
    let mut names = Vec::new();
    let mut ends: BTreeMap<(u64, u64), f64> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap() {
        let (process, thread) = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
        let began = event["ts"].as_f64().unwrap();
        names.push(event["name"].as_str().unwrap());
        match event["ph"].as_str().unwrap() {
            "M" => assert!(event["args"].is_object(), "{event}"),
            "X" => {
                let end = ends.entry((process, thread)).or_default();
                // Times are nanoseconds, written as microseconds.
                assert!(began >= *end - 0.000_5, "{event} begins before {end}");
                *end = began + event["dur"].as_f64().unwrap();
            }
            other => panic!("{other}: {event}"),
        }
    }
    assert_eq!(names.iter().filter(|name| **name == "process_name").count(), 3);
    for name in LAYER.iter().filter(|name| **name != "receive") {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    assert!(names.contains(&"receive waits: network"), "{names:?}");
}

#[test]
fn a_failed_pull_has_times_too_and_its_error_comes_last() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    registry.fault(unlade_test_support::Fault::on_blobs().status(404));
    let ran = sandbox.run(&format!(
        "pull --timings --trace pull.json --format json {}/x:1",
        registry.host()
    ));
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let lines: Vec<Value> = ran.stderr.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(lines[0]["event"], "timings");
    assert_eq!(lines[1]["class"], "not-found");
    assert!(fs::metadata(sandbox.path("pull.json")).unwrap().len() > 0);
}

#[test]
fn where_no_trace_can_be_written_nothing_is_pulled() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let ran = sandbox.run(&format!("pull --trace none/pull.json {}/x:1", registry.host()));
    assert_eq!(ran.code, Some(9), "{}", ran.stderr);
    assert!(ran.stderr.contains("none/pull.json"), "{}", ran.stderr);
    assert!(registry.requests().is_empty());
}

#[test]
#[cfg(not(feature = "bench-skip-verify"))]
fn no_program_but_that_of_a_benchmark_leaves_out_checks() {
    let sandbox = Sandbox::new();
    let ran = sandbox.run("pull --bench-skip-verify alpine");
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("unexpected argument"), "{}", ran.stderr);
    assert!(!sandbox.ok("pull --help").contains("bench-skip-verify"));
}

#[test]
fn nothing_is_measured_that_was_not_asked_for() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let ran = sandbox.run(&format!("pull --progress none {}/x:1", registry.host()));
    assert_eq!((ran.code, &ran.stderr[..]), (Some(0), ""));
}
