//! A pull as a file of Chrome's trace events, which Perfetto and `chrome://tracing` show.
//!
//! A part is a process there, a track a thread of it. Times are in microseconds. The form is JSON's object form of the
//! *Trace Event Format*: `X` is a complete event, `M` names things.

use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};
use serde_json::{Value, json};
use unlade_pull::{PartTimes, Span, TimingsReport};

/// What was measured, as the file has it.
#[derive(Debug)]
pub(super) struct Trace<'a>(pub(super) &'a TimingsReport);

impl Serialize for Trace<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tracks = self.0.parts.iter().flat_map(|part| &part.tracks);
        let lost: u64 = tracks.map(|track| track.spans_lost).sum();
        let mut trace = serializer.serialize_struct("Trace", 3)?;
        trace.serialize_field("displayTimeUnit", "ms")?;
        trace.serialize_field("otherData", &json!({"program": "unlade", "events_lost": lost}))?;
        trace.serialize_field("traceEvents", &Events(self.0))?;
        trace.end()
    }
}

struct Events<'a>(&'a TimingsReport);

impl Serialize for Events<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.0
                .parts
                .iter()
                .enumerate()
                .flat_map(|(number, part)| events(number, part)),
        )
    }
}

/// Returns the events of a part: first its names.
fn events(number: usize, part: &PartTimes) -> impl Iterator<Item = Value> + '_ {
    let process = [
        meta("process_name", number, 0, &json!({"name": part.name})),
        meta("process_sort_index", number, 0, &json!({"sort_index": number})),
    ];
    let threads = part.tracks.iter().enumerate().flat_map(move |(thread, track)| {
        let name = match track.number {
            0 => track.name.to_owned(),
            more => format!("{} {}", track.name, more + 1),
        };
        let name = meta("thread_name", number, thread, &json!({"name": name}));
        std::iter::once(name).chain(track.spans.iter().map(move |span| event(number, thread, span)))
    });
    process.into_iter().chain(threads)
}

fn meta(name: &str, process: usize, thread: usize, arguments: &Value) -> Value {
    json!({"ph": "M", "ts": 0, "pid": process, "tid": thread, "name": name, "args": arguments})
}

fn event(process: usize, thread: usize, span: &Span) -> Value {
    let (name, category) = match span.wait {
        None => (span.stage.name().to_owned(), "busy"),
        Some(wait) => (format!("{} waits: {}", span.stage.name(), wait.name()), "wait"),
    };
    json!({
        "ph": "X",
        "ts": microseconds(span.began),
        "dur": microseconds(span.ended.saturating_sub(span.began)),
        "pid": process,
        "tid": thread,
        "name": name,
        "cat": category,
    })
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
