//! The report of `--timings`, for people and for programs.

use std::time::Duration;

use serde_json::{Map, Value, json};
use unlade_pull::{PartTimes, StageTimes, TimingsReport, Wait};

use crate::stderr::EVENT_VERSION;
use crate::{quantity, table};

/// Characters of a layer's digest that are shown: the algorithm and twelve digits.
const DIGEST: usize = 19;

/// Returns the lines for people.
pub(super) fn lines(report: &TimingsReport) -> Vec<String> {
    let rows = report.parts.iter().flat_map(|part| {
        let name = part.name.chars().take(DIGEST).collect();
        let head = [
            name,
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ];
        std::iter::once(head).chain(part.stages.iter().map(row))
    });
    let mut out = Vec::new();
    let head = [
        "STAGE",
        "   FROM",
        "     TO",
        "   BUSY",
        "    CPU",
        "     BYTES",
        "WAITED FOR",
    ];
    // Memory takes all that is written.
    let _always = table::write(&mut out, head, rows).is_ok();
    let mut lines = vec![format!(
        "timings, in seconds: {:.3} in all; {:.3} of processor, {:.3} of them in no stage",
        report.wall.as_secs_f64(),
        report.cpu.as_secs_f64(),
        outside(report).as_secs_f64(),
    )];
    lines.extend(String::from_utf8_lossy(&out).lines().map(str::to_owned));
    lines
}

fn row(times: &StageTimes) -> [String; 7] {
    let several = match times.tracks {
        0 | 1 => String::new(),
        tracks => format!(" x{tracks}"),
    };
    let bytes = match times.bytes {
        0 => String::new(),
        bytes => format!("{:>10}", quantity::bytes(bytes)),
    };
    let waits: Vec<_> = waits(times)
        .filter(|(_, time)| !time.is_zero())
        .map(|(wait, time)| format!("{} {:.3}", wait.name(), time.as_secs_f64()))
        .collect();
    let seconds = |time: Duration| format!("{:>7.3}", time.as_secs_f64());
    [
        format!("  {}{several}", times.stage.name()),
        seconds(times.began),
        seconds(times.ended),
        seconds(times.busy),
        seconds(times.cpu),
        bytes,
        waits.join(", "),
    ]
}

/// Returns the object for programs.
pub(super) fn object(report: &TimingsReport) -> Value {
    json!({
        "v": EVENT_VERSION,
        "event": "timings",
        "seconds": report.wall.as_secs_f64(),
        "cpu_seconds": report.cpu.as_secs_f64(),
        "cpu_seconds_outside": outside(report).as_secs_f64(),
        "parts": report.parts.iter().map(part).collect::<Vec<_>>(),
    })
}

fn part(part: &PartTimes) -> Value {
    let stage = |times: &StageTimes| {
        let waited: Map<_, _> = waits(times)
            .map(|(wait, time)| (wait.name().to_owned(), json!(time.as_secs_f64())))
            .collect();
        json!({
            "stage": times.stage.name(),
            "began": times.began.as_secs_f64(),
            "ended": times.ended.as_secs_f64(),
            "busy_seconds": times.busy.as_secs_f64(),
            "cpu_seconds": times.cpu.as_secs_f64(),
            "waited_seconds": waited,
            "bytes": times.bytes,
            "tracks": times.tracks,
        })
    };
    json!({
        "part": part.name,
        "stages": part.stages.iter().map(stage).collect::<Vec<_>>(),
    })
}

fn waits(times: &StageTimes) -> impl Iterator<Item = (Wait, Duration)> {
    Wait::ALL.into_iter().map(|wait| (wait, times.waited(wait)))
}

/// Returns the processor time that no stage has measured.
fn outside(report: &TimingsReport) -> Duration {
    let stages = report.parts.iter().flat_map(|part| &part.stages);
    let inside: Duration = stages.map(|times| times.cpu).sum();
    report.cpu.saturating_sub(inside)
}
