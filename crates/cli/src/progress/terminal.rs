//! Progress on a terminal: a bar for each layer under way, one for the total, none for what is through.

use std::io;
use std::time::{Duration, Instant};

use clap::builder::styling::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::model::{Layer, Model};
use super::plain::summary;
use super::{Notice, Renderer, Words};
use crate::quantity::{bytes, duration};
use crate::stderr::Stderr;

/// What is over before this time needs no bars.
const QUIET_AT_FIRST: Duration = Duration::from_millis(250);
const INTERVAL: Duration = Duration::from_millis(50);
/// The terminal is drawn at most this often a second.
const MAX_RATE: u8 = 30;
/// More lines than this are not read by anybody.
const MAX_LAYERS: usize = 16;
const MAX_RESOLVING: usize = 5;
const MAX_BAR: usize = 40;
const MIN_BAR: usize = 10;

const EXTRACTED: Style = AnsiColor::Green.on_default();
const DOWNLOADED: Style = AnsiColor::Cyan.on_default();

/// Draws bars.
pub(super) struct Terminal {
    stderr: Stderr,
    /// All lines in one; there once something was drawn.
    lines: Option<ProgressBar>,
}

/// Columns and rows to draw in.
#[derive(Clone, Copy, Debug)]
struct Room {
    columns: usize,
    rows: usize,
    has_color: bool,
}

impl Terminal {
    pub(super) fn new(stderr: Stderr) -> Self {
        Self { stderr, lines: None }
    }

    fn draw(&mut self, model: &Model) {
        let (columns, rows) = match rustix::termios::tcgetwinsize(io::stderr()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (80, 24),
        };
        let frame = frame(
            model,
            Room {
                columns,
                rows,
                has_color: self.stderr.has_color(),
            },
        );
        self.lines
            .get_or_insert_with(|| {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(MAX_RATE));
                // The one placeholder is known to indicatif, and its default would still do.
                bar.with_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()))
            })
            .set_message(frame.join("\n"));
    }
}

impl Renderer for Terminal {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn notice(&mut self, _model: &Model, notice: &Notice, _now: Instant) {
        let Notice::Warning(text) = notice else { return };
        match &self.lines {
            Some(lines) => lines.println(self.stderr.warning_line(text)),
            None => self.stderr.warning(text),
        }
    }

    fn tick(&mut self, model: &Model, now: Instant) {
        if now.duration_since(model.began) >= QUIET_AT_FIRST {
            self.draw(model);
        }
    }

    fn finish(&mut self, model: &Model, success: bool, now: Instant) {
        let Some(lines) = self.lines.take() else { return };
        lines.finish_and_clear();
        if success && model.plan.is_some() {
            self.stderr.line(&summary(model, now));
        }
    }
}

/// Returns the lines that show the model in the room there is.
fn frame(model: &Model, room: Room) -> Vec<String> {
    let mut lines: Vec<String> = model
        .resolving()
        .take(MAX_RESOLVING)
        .map(|reference| cut(&format!("resolving {reference}"), room))
        .collect();
    // The total, the line about the rest, and the cursor's own.
    let rows = room.rows.saturating_sub(lines.len() + 3).clamp(1, MAX_LAYERS);
    lines.extend(
        model
            .layers
            .iter()
            .take(rows)
            .map(|layer| layer_line(layer, model.words, room)),
    );
    if model.layers.len() > rows {
        lines.push(cut(
            &format!("{:12} {} more under way", "", model.layers.len() - rows),
            room,
        ));
    }
    if model.plan.is_some() {
        lines.push(total_line(model, room));
    }
    lines
}

fn layer_line(layer: &Layer, words: Words, room: Room) -> String {
    let hex = layer
        .digest
        .split_once(':')
        .map_or(layer.digest.as_str(), |(_, hex)| hex);
    let name = hex.get(..12).unwrap_or(hex);
    let doing = if layer.is_downloading() {
        words.now.to_owned()
    } else {
        format!("extracting {}%", share(layer.extracted, layer.total, 100))
    };
    let amount = format!(
        "{:>10} of {:<10} {doing:<15}",
        bytes(layer.downloaded),
        bytes(layer.total)
    );
    line(name, layer.extracted, layer.downloaded, layer.total, &amount, room)
}

fn total_line(model: &Model, room: Room) -> String {
    let (received, to_receive) = (model.received(), model.to_receive());
    let mut speed = Vec::new();
    if received < to_receive {
        speed.push(format!("{}/s", bytes(model.rate().unwrap_or_default())));
        speed.extend(model.time_left().map(|left| format!("{} left", duration(left))));
    }
    let amount = format!(
        "{:>10} of {:<10} {}",
        bytes(received),
        bytes(to_receive),
        speed.join(", ")
    );
    let name = format!("{}/{} done", model.layers_through(), model.layers_total());
    // Bytes of the layers that are through count as extracted, and of the others as far as that is known.
    let extracted: u64 = model.layers.iter().map(|layer| layer.extracted).sum();
    let under_way: u64 = model.layers.iter().map(|layer| layer.downloaded).sum();
    let extracted = received
        .saturating_sub(under_way)
        .saturating_add(extracted)
        .min(received);
    line(&name, extracted, received, to_receive, &amount, room)
}

/// A bar of which one part is through both stages and another one through the first.
fn line(name: &str, extracted: u64, downloaded: u64, total: u64, amount: &str, room: Room) -> String {
    let name = format!("{name:<12}");
    let width = room.columns.saturating_sub(name.len() + amount.len() + 5).min(MAX_BAR);
    if width < MIN_BAR {
        return cut(&format!("{name} {amount}"), room);
    }
    let columns = width as u64;
    // A part is at most the whole, which has come from a usize.
    let full = usize::try_from(share(extracted, total, columns)).unwrap_or(width);
    let half = usize::try_from(share(downloaded, total, columns))
        .unwrap_or(width)
        .saturating_sub(full);
    let paint = |style: Style, text: String| {
        if room.has_color {
            format!("{style}{text}{style:#}")
        } else {
            text
        }
    };
    format!(
        "{name} [{}{}{}] {}",
        paint(EXTRACTED, "#".repeat(full)),
        paint(DOWNLOADED, "-".repeat(half)),
        " ".repeat(width - full - half),
        amount.trim_end()
    )
}

/// Returns `part` of `whole` in parts of `of`; of nothing, everything is done.
fn share(part: u64, whole: u64, of: u64) -> u64 {
    if whole == 0 {
        return of;
    }
    let share = u128::from(part.min(whole)) * u128::from(of) / u128::from(whole);
    u64::try_from(share).unwrap_or(of)
}

fn cut(line: &str, room: Room) -> String {
    line.trim_end().chars().take(room.columns.saturating_sub(1)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::model::tests::{download, extract, work};
    use super::super::{Kind, Plan};
    use super::*;

    const ROOM: Room = Room {
        columns: 90,
        rows: 24,
        has_color: false,
    };

    fn digest(number: u64) -> String {
        format!("sha256:{number:02}{}", "0".repeat(62))
    }

    fn busy(layers: u64) -> Model {
        let now = Instant::now();
        let mut model = Model::new(now);
        let plan = Plan {
            layers: 60,
            layers_present: 2,
            bytes_to_fetch: 58 << 20,
        };
        model.apply(&Notice::Planned(plan), now);
        for id in 0..layers {
            let (started, received) = download(2 * id, &digest(id), 1 << 20);
            model.apply(&started, now);
            let (started, extracted) = extract(2 * id + 1, &digest(id), 1 << 20);
            model.apply(&started, now);
            received.store(1 << 19, Ordering::Relaxed);
            extracted.store(1 << 18, Ordering::Relaxed);
        }
        model.sample(now + Duration::from_secs(1));
        model
    }

    #[test]
    fn a_bar_for_each_layer_and_a_total() {
        let mut model = busy(3);
        model.apply(&Notice::Finished { id: 2, done: true }, model.began);
        insta::assert_snapshot!(frame(&model, ROOM).join("\n"), @r#"
        000000000000 [########--------                 ]  512.0 KiB of 1.0 MiB    downloading
        010000000000 [########--------                 ]  512.0 KiB of 1.0 MiB    extracting 25%
        020000000000 [########--------                 ]  512.0 KiB of 1.0 MiB    downloading
        2/60 done    [                             ]    1.5 MiB of 58.0 MiB   1.5 MiB/s, 38s left
        "#);
    }

    #[test]
    fn a_name_that_is_being_resolved() {
        let mut model = Model::new(Instant::now());
        let (started, _) = work(
            1,
            Kind::Resolve {
                reference: "docker.io/library/alpine:latest".to_owned(),
            },
            0,
        );
        model.apply(&started, model.began);
        assert_eq!(frame(&model, ROOM), ["resolving docker.io/library/alpine:latest"]);
    }

    #[test]
    fn many_layers_fit_into_a_small_terminal() {
        let model = busy(60);
        for (columns, rows) in [(90, 24), (90, 8), (40, 100), (20, 3), (1, 1)] {
            let lines = frame(
                &model,
                Room {
                    columns,
                    rows,
                    has_color: false,
                },
            );
            assert!(
                lines.len() < rows.max(4) && lines.len() <= MAX_LAYERS + 2,
                "{rows}: {}",
                lines.len()
            );
            assert!(
                lines.iter().all(|line| line.chars().count() < columns),
                "{columns}: {lines:#?}"
            );
        }
        let lines = frame(&model, ROOM);
        assert_eq!(lines[MAX_LAYERS].trim(), "44 more under way");
    }

    #[test]
    fn an_empty_layer_is_done() {
        assert_eq!(share(0, 0, 10), 10);
        assert_eq!(share(5, 10, 10), 5);
        assert_eq!(share(11, 10, 10), 10);
        assert_eq!(share(u64::MAX - 1, u64::MAX, 10), 9);
    }
}
