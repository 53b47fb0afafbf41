//! A pull on a machine with so many cores, from what its stages took on this one.
//!
//! A layer is a pipeline: its stages run side by side, each on threads of its own, and all go forward at the pace of the
//! slowest. As many layers run at once as there are workers, the largest first, and share the cores equally; what one cannot
//! use is the others'. What belongs to no layer comes before and after, on one core. A stage takes the processor time that was
//! measured: waiting for a disk is not in it, nor that memory and locks are shared by more cores.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The threads of a layer, and the stages that take turns on each.
const THREADS: [(&str, &[&str]); 5] = [
    ("receiving", &["receive", "write"]),
    ("inflating", &["read", "inflate"]),
    ("hashing", &["hash"]),
    ("making files", &["files"]),
    ("making small files", &["small-files"]),
];

/// Layers at once: two for each core, but no fewer and no more than these.
const WORKERS: std::ops::RangeInclusive<usize> = 4..=16;

/// All that a pull has to do.
#[derive(Debug)]
pub(super) struct Work {
    /// Seconds of what belongs to no layer.
    alone: f64,
    /// The largest first.
    layers: Vec<Layer>,
}

/// What one layer takes.
#[derive(Debug)]
struct Layer {
    name: String,
    /// Seconds of processor time for each of [`THREADS`], and how many threads may share it.
    threads: Vec<(f64, usize)>,
}

/// What no number of cores makes shorter.
#[derive(Debug)]
pub(super) struct Chain {
    /// With what belongs to no layer.
    pub(super) seconds: f64,
    pub(super) name: String,
}

impl Layer {
    fn total(&self) -> f64 {
        self.threads.iter().map(|(seconds, _)| seconds).sum()
    }

    /// The busiest thread, by place, and its seconds.
    fn longest(&self, cores: usize) -> (usize, f64) {
        #[expect(clippy::cast_precision_loss, reason = "a few threads")]
        let alone = |(seconds, spread): &(f64, usize)| seconds / (*spread).min(cores) as f64;
        let times = self.threads.iter().map(alone).enumerate();
        times.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default()
    }
}

impl Work {
    /// Reads a report of `--timings`. What the registry took, and what unlade took outside of all stages (HTTP above all), is
    /// spread over the layers by their bytes.
    pub(super) fn of(report: &Value, served: f64) -> Result<Self> {
        let parts = report["parts"].as_array().context("the timings have no parts")?;
        let network = served + number(&report["cpu_seconds_outside"]);
        let mut layers = Vec::new();
        let (mut alone, mut bytes) = (0.0, Vec::new());
        for part in parts {
            let stages = part["stages"].as_array().context("a part has no stages")?;
            let cpu = |stage: &&Value| number(&stage["cpu_seconds"]);
            let of = |name: &str| stages.iter().find(|stage| stage["stage"] == name);
            if of("receive").is_none() && of("inflate").is_none() {
                alone += stages.iter().map(|stage| cpu(&stage)).sum::<f64>();
                continue;
            }
            let thread = |(_, names): &(&str, &[&str])| {
                let of_thread = || {
                    stages
                        .iter()
                        .filter(|stage| names.iter().any(|name| stage["stage"] == *name))
                };
                // Several connections are there at once; several tracks of other stages came one after the other.
                let spread = of_thread()
                    .filter(|stage| stage["stage"] == "receive")
                    .filter_map(|stage| stage["tracks"].as_u64())
                    .max()
                    .unwrap_or(1);
                (
                    of_thread().map(|stage| cpu(&stage)).sum(),
                    usize::try_from(spread).unwrap_or(1).max(1),
                )
            };
            layers.push(Layer {
                name: part["part"].as_str().unwrap_or_default().to_owned(),
                threads: THREADS.iter().map(thread).collect(),
            });
            bytes.push(of("receive").map_or(0.0, |stage| number(&stage["bytes"])));
        }
        ensure!(!layers.is_empty(), "the timings name no layer");
        let all: f64 = bytes.iter().sum();
        for (layer, bytes) in layers.iter_mut().zip(bytes) {
            if let Some((receiving, _)) = layer.threads.first_mut()
                && all > 0.0
            {
                *receiving += network * bytes / all;
            }
        }
        layers.sort_by(|a, b| b.total().total_cmp(&a.total()));
        Ok(Self { alone, layers })
    }

    /// Returns the seconds that it takes on so many cores.
    pub(super) fn on(&self, cores: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 64")]
        let all = cores as f64;
        let mut waiting = self.layers.iter();
        // What is left of each layer at work, from 1 to 0.
        let mut running: Vec<(&Layer, f64)> = Vec::new();
        let mut seconds = self.alone;
        loop {
            while running.len() < (2 * cores).clamp(*WORKERS.start(), *WORKERS.end())
                && let Some(layer) = waiting.next()
            {
                running.push((layer, 1.0));
            }
            if running.is_empty() {
                return seconds;
            }
            let paces = paces(&running, cores, all);
            let next = running.iter().zip(&paces).map(|((_, left), pace)| left / pace);
            let step = next.fold(f64::INFINITY, f64::min);
            seconds += step;
            for ((_, left), pace) in running.iter_mut().zip(&paces) {
                *left -= step * pace;
            }
            running.retain(|(_, left)| *left > 1e-9);
        }
    }

    /// Returns the longest thread of a layer.
    pub(super) fn chain(&self) -> Chain {
        let chains = self.layers.iter().map(|layer| {
            let (thread, seconds) = layer.longest(usize::MAX);
            let name = THREADS.get(thread).map_or("", |(name, _)| name);
            (seconds, format!("{name} of {}", layer.name))
        });
        let (seconds, name) = chains.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
        Chain {
            seconds: seconds + self.alone,
            name,
        }
    }
}

/// How much of itself each layer gets done in a second.
fn paces(running: &[(&Layer, f64)], cores: usize, all: f64) -> Vec<f64> {
    // A layer without work is done at once.
    let total = |layer: &Layer| layer.total().max(1e-9);
    let most: Vec<f64> = running
        .iter()
        .map(|(layer, _)| total(layer) / layer.longest(cores).1.max(1e-9))
        .collect();
    // The share of each, so that all of them together are the cores: none gets more than it can use.
    let (mut low, mut high) = (0.0, all);
    for _ in 0..60 {
        let share = f64::midpoint(low, high);
        if most.iter().map(|most| most.min(share)).sum::<f64>() < all {
            low = share;
        } else {
            high = share;
        }
    }
    let shares = most.iter().map(|most| most.min(high));
    shares
        .zip(running)
        .map(|(share, (layer, _))| share / total(layer))
        .collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn work(alone: f64, layers: &[[f64; 5]]) -> Work {
        Work {
            alone,
            layers: layers
                .iter()
                .map(|threads| Layer {
                    name: "layer".to_owned(),
                    threads: threads.iter().map(|seconds| (*seconds, 1)).collect(),
                })
                .collect(),
        }
    }

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn one_core_does_all_the_work() {
        let two = work(0.5, &[[1.0, 4.0, 1.0, 3.0, 0.0], [0.0, 1.0, 0.0, 1.0, 0.0]]);
        assert_close(two.on(1), 11.5);
    }

    #[test]
    fn a_layer_takes_as_long_as_its_busiest_thread() {
        let one = work(0.5, &[[1.0, 4.0, 1.0, 3.0, 0.0]]);
        assert_close(one.on(64), 4.5);
        assert_close(one.on(2), 5.0);
        let chain = one.chain();
        assert_close(chain.seconds, 4.5);
        assert_eq!(chain.name, "inflating of layer");
    }

    #[test]
    fn what_one_layer_cannot_use_is_the_others() {
        // The first can use one core only; the second has the other two to itself until it is done.
        let two = work(0.0, &[[0.0, 4.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 2.0, 0.0]]);
        assert_close(two.on(3), 4.0);
        // Two cores: each gets one, and they end together.
        assert_close(two.on(2), 4.0);
    }

    #[test]
    fn a_stage_of_several_threads_is_spread_over_them() {
        let mut one = work(0.0, &[[0.0, 1.0, 0.0, 6.0, 0.0]]);
        one.layers[0].threads[3].1 = 3;
        assert_close(one.on(64), 2.0);
        assert_close(one.on(1), 7.0);
    }

    #[test]
    fn reports_are_read() {
        let stage = |name: &str, cpu: f64, bytes: u64, tracks: u64| json!({"stage": name, "cpu_seconds": cpu, "bytes": bytes, "tracks": tracks});
        let report = json!({"event": "timings", "cpu_seconds_outside": 0.25, "parts": [
            {"part": "pull", "stages": [stage("resolve", 0.5, 0, 1)]},
            {"part": "sha256:a", "stages": [stage("receive", 1.0, 30, 4), stage("inflate", 2.0, 90, 1), stage("read", 1.0, 30, 1)]},
            {"part": "sha256:b", "stages": [stage("receive", 0.0, 10, 1), stage("files", 8.0, 20, 2)]},
        ]});
        let work = Work::of(&report, 0.75).unwrap();
        assert_close(work.alone, 0.5);
        let names: Vec<&str> = work.layers.iter().map(|layer| &*layer.name).collect();
        assert_eq!(names, ["sha256:b", "sha256:a"], "the largest first");
        assert_close(work.layers[1].threads[0].0, 1.75);
        assert_close(work.layers[1].threads[1].0, 3.0);
        assert_eq!(work.layers[0].threads[3], (8.0, 1));
        assert_eq!(work.layers[1].threads[0].1, 4);
        assert!(Work::of(&json!({"parts": []}), 0.0).is_err());
    }
}
