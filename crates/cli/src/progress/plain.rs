//! Progress for logs: a line at the start, one every few seconds, one at the end.

use std::time::{Duration, Instant};

use super::model::Model;
use super::{Notice, Renderer};
use crate::quantity::{bytes, duration};
use crate::stderr::Stderr;

const INTERVAL: Duration = Duration::from_secs(5);

/// Writes lines.
pub(super) struct Plain {
    stderr: Stderr,
}

impl Plain {
    pub(super) fn new(stderr: Stderr) -> Self {
        Self { stderr }
    }
}

/// Returns the last line of a pull that went well.
pub(super) fn summary(model: &Model, now: Instant) -> String {
    format!(
        "{} in place, {} {} in {}",
        count(model.layers_total(), "layer"),
        bytes(model.received()),
        model.words.past,
        duration(now.duration_since(model.began))
    )
}

/// Returns a number of things, in words.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

impl Renderer for Plain {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn notice(&mut self, model: &Model, notice: &Notice, _now: Instant) {
        match notice {
            Notice::Planned(plan) => {
                let missing = plan.layers - plan.layers_present;
                self.stderr.line(&format!(
                    "{} {missing} of {}, {} {}",
                    model.words.doing,
                    count(plan.layers, "layer"),
                    bytes(plan.bytes_to_fetch),
                    model.words.ahead
                ));
            }
            Notice::Warning(text) => self.stderr.warning(text),
            Notice::Started(_) | Notice::Finished { .. } => {}
        }
    }

    fn tick(&mut self, model: &Model, _now: Instant) {
        if model.plan.is_none() {
            for reference in model.resolving() {
                self.stderr.line(&format!("still resolving {reference}"));
            }
            return;
        }
        let mut parts = vec![
            format!("{} of {} layers done", model.layers_through(), model.layers_total()),
            format!(
                "{} of {} {}",
                bytes(model.received()),
                bytes(model.to_receive()),
                model.words.past
            ),
        ];
        if model.received() < model.to_receive() {
            parts.push(format!("{}/s", bytes(model.rate().unwrap_or_default())));
            parts.extend(model.time_left().map(|left| format!("{} left", duration(left))));
        }
        self.stderr.line(&parts.join(", "));
    }

    fn finish(&mut self, model: &Model, success: bool, now: Instant) {
        if success && model.plan.is_some() {
            self.stderr.line(&summary(model, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::model::tests::{download, work};
    use super::super::{Kind, Plan};
    use super::*;
    use crate::stderr::tests::captured;

    #[test]
    fn lines() {
        let (stderr, lines) = captured(false);
        let mut plain = Plain::new(stderr);
        let now = Instant::now();
        let mut model = Model::new(now);
        let mut tell = |model: &mut Model, notice: Notice| {
            plain.notice(model, &notice, now);
            model.apply(&notice, now);
        };
        let (resolve, _) = work(
            1,
            Kind::Resolve {
                reference: "r/x:1".to_owned(),
            },
            0,
        );
        tell(&mut model, resolve);
        tell(&mut model, Notice::Warning("careful".to_owned()));
        Plain::tick(&mut Plain::new(captured(false).0), &model, now);
        tell(&mut model, Notice::Finished { id: 1, done: true });
        tell(
            &mut model,
            Notice::Planned(Plan {
                layers: 2,
                layers_present: 1,
                bytes_to_fetch: 4 << 20,
            }),
        );
        let (started, received) = download(2, "sha256:a", 4 << 20);
        tell(&mut model, started);
        received.store(1 << 20, Ordering::Relaxed);
        model.sample(now + Duration::from_secs(1));
        plain.tick(&model, now);
        received.store(4 << 20, Ordering::Relaxed);
        model.sample(now + Duration::from_secs(9));
        plain.tick(&model, now);
        plain.finish(&model, true, now + Duration::from_secs(10));
        insta::assert_snapshot!(lines(), @r#"
        warning: careful
        pulling 1 of 2 layers, 4.0 MiB to download
        1 of 2 layers done, 1.0 MiB of 4.0 MiB downloaded, 1.0 MiB/s, 3s left
        1 of 2 layers done, 4.0 MiB of 4.0 MiB downloaded
        2 layers in place, 4.0 MiB downloaded in 10s
        "#);
    }
}
