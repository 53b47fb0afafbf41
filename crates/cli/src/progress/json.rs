//! Progress for programs: one JSON object a line on stderr.
//!
//! Every object has `v`, the version of the form, and `event`. Within one version members are only ever added, so a
//! reader passes over what it does not know.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::model::Model;
use super::{Kind, Notice, Renderer, Work};
use crate::stderr::{EVENT_VERSION, Stderr};

const INTERVAL: Duration = Duration::from_millis(500);

/// Writes objects.
pub(super) struct Json {
    stderr: Stderr,
    /// The bytes of each task as last written.
    written: HashMap<u64, u64>,
}

#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    #[serde(flatten)]
    event: Event<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
enum Event<'a> {
    Planned {
        layers: usize,
        layers_present: usize,
        bytes_to_fetch: u64,
    },
    Started {
        #[serde(flatten)]
        task: Task<'a>,
    },
    Progress {
        #[serde(flatten)]
        task: Task<'a>,
        /// Bytes a second of all downloads together.
        rate: Option<u64>,
    },
    Finished {
        #[serde(flatten)]
        task: Task<'a>,
        outcome: &'static str,
    },
    Ended {
        outcome: &'static str,
        layers: usize,
        layers_done: usize,
        bytes_received: u64,
        seconds: f64,
    },
}

#[derive(Serialize)]
struct Task<'a> {
    #[serde(rename = "task")]
    id: u64,
    activity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff_id: Option<&'a str>,
    bytes: u64,
    total: u64,
}

impl<'a> Task<'a> {
    fn of(work: &'a Work) -> Self {
        let (activity, reference, digest, diff_id) = match &work.kind {
            Kind::Resolve { reference } => ("resolve", Some(reference.as_str()), None, None),
            Kind::Download { digest } => ("download", None, Some(digest.as_str()), None),
            Kind::Extract { digest, diff_id } => ("extract", None, Some(digest.as_str()), Some(diff_id.as_str())),
        };
        Self {
            id: work.id,
            activity,
            reference,
            digest,
            diff_id,
            bytes: work.bytes(),
            total: work.total,
        }
    }
}

impl Json {
    pub(super) fn new(stderr: Stderr) -> Self {
        Self {
            stderr,
            written: HashMap::new(),
        }
    }

    fn write(&self, event: Event<'_>) {
        if let Ok(line) = serde_json::to_string(&Line {
            v: EVENT_VERSION,
            event,
        }) {
            self.stderr.line(&line);
        }
    }
}

const fn outcome(done: bool) -> &'static str {
    if done { "done" } else { "stopped" }
}

impl Renderer for Json {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn notice(&mut self, model: &Model, notice: &Notice, _now: Instant) {
        match notice {
            Notice::Planned(plan) => self.write(Event::Planned {
                layers: plan.layers,
                layers_present: plan.layers_present,
                bytes_to_fetch: plan.bytes_to_fetch,
            }),
            Notice::Started(work) => {
                self.written.insert(work.id, work.bytes());
                self.write(Event::Started { task: Task::of(work) });
            }
            Notice::Finished { id, done } => {
                self.written.remove(id);
                if let Some(active) = model.tasks.get(id) {
                    self.write(Event::Finished {
                        task: Task::of(&active.work),
                        outcome: outcome(*done),
                    });
                }
            }
            Notice::Warning(text) => self.stderr.warning(text),
        }
    }

    fn tick(&mut self, model: &Model, _now: Instant) {
        for active in model.tasks.values() {
            let task = Task::of(&active.work);
            if self.written.insert(task.id, task.bytes) != Some(task.bytes) {
                self.write(Event::Progress {
                    task,
                    rate: model.rate(),
                });
            }
        }
    }

    fn finish(&mut self, model: &Model, success: bool, now: Instant) {
        self.write(Event::Ended {
            outcome: outcome(success),
            layers: model.layers_total(),
            layers_done: model.layers_through(),
            bytes_received: model.received(),
            seconds: now.duration_since(model.began).as_secs_f64(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::Plan;
    use super::super::model::tests::{extract, work};
    use super::*;
    use crate::stderr::tests::captured;

    #[test]
    fn lines() {
        let (stderr, lines) = captured(true);
        let mut json = Json::new(stderr);
        let now = Instant::now();
        let mut model = Model::new(now);
        let (resolve, _) = work(
            1,
            Kind::Resolve {
                reference: "r/x:1".to_owned(),
            },
            0,
        );
        let (started, bytes) = extract(2, "sha256:a", 100);
        let planned = Notice::Planned(Plan {
            layers: 2,
            layers_present: 1,
            bytes_to_fetch: 100,
        });
        let warning = Notice::Warning("careful".to_owned());
        for notice in [
            resolve,
            Notice::Finished { id: 1, done: true },
            planned,
            warning,
            started,
        ] {
            json.notice(&model, &notice, now);
            model.apply(&notice, now);
        }
        bytes.store(40, Ordering::Relaxed);
        for _ in 0..2 {
            model.sample(now + Duration::from_secs(1));
            json.tick(&model, now);
        }
        bytes.store(100, Ordering::Relaxed);
        let finished = Notice::Finished { id: 2, done: true };
        json.notice(&model, &finished, now);
        model.apply(&finished, now);
        json.finish(&model, true, now + Duration::from_secs(2));
        let lines = lines();
        assert!(
            lines.lines().all(|line| line.parse::<serde_json::Value>().is_ok()),
            "{lines}"
        );
        insta::assert_snapshot!(lines, @r#"
        {"v":1,"event":"started","task":1,"activity":"resolve","reference":"r/x:1","bytes":0,"total":0}
        {"v":1,"event":"finished","task":1,"activity":"resolve","reference":"r/x:1","bytes":0,"total":0,"outcome":"done"}
        {"v":1,"event":"planned","layers":2,"layers_present":1,"bytes_to_fetch":100}
        {"event":"warning","message":"careful","v":1}
        {"v":1,"event":"started","task":2,"activity":"extract","digest":"sha256:a","diff_id":"sha256:d","bytes":0,"total":100}
        {"v":1,"event":"progress","task":2,"activity":"extract","digest":"sha256:a","diff_id":"sha256:d","bytes":40,"total":100,"rate":0}
        {"v":1,"event":"finished","task":2,"activity":"extract","digest":"sha256:a","diff_id":"sha256:d","bytes":100,"total":100,"outcome":"done"}
        {"v":1,"event":"ended","outcome":"done","layers":2,"layers_done":2,"bytes_received":0,"seconds":2.0}
        "#);
    }
}
