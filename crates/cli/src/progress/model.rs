//! What is known of a pull while it runs: tasks, layers, totals, speed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Kind, Notice, Plan, Words, Work};

/// Over what time the speed is measured.
const WINDOW: Duration = Duration::from_secs(5);

/// The state that is drawn.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) words: Words,
    pub(super) began: Instant,
    pub(super) plan: Option<Plan>,
    /// Tasks under way.
    pub(super) tasks: BTreeMap<u64, Active>,
    /// Layers under way, in the order they began.
    pub(super) layers: Vec<Layer>,
    /// Layers that are through, by the blob's digest.
    through: BTreeSet<String>,
    /// Bytes received by downloads that have ended.
    received_before: u64,
    /// Bytes received, as shown: it never goes back.
    received: u64,
    samples: VecDeque<(Instant, u64)>,
}

/// A task under way.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) work: Arc<Work>,
    /// The bytes it had when it began: those of an earlier download that broke off.
    bytes_at_start: u64,
}

impl Active {
    /// Bytes that this task itself has done.
    fn gained(&self) -> u64 {
        self.work.bytes().saturating_sub(self.bytes_at_start)
    }
}

/// A layer under way.
#[derive(Debug)]
pub(super) struct Layer {
    /// The blob's digest.
    pub(super) digest: String,
    /// The blob's size in bytes.
    pub(super) total: u64,
    /// The task that downloads it, while it does.
    download: Option<u64>,
    /// The task that extracts it, while it does.
    extract: Option<u64>,
    /// Bytes downloaded and extracted, as shown: they never go back.
    pub(super) downloaded: u64,
    pub(super) extracted: u64,
}

impl Model {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            words: Words::PULL,
            began: now,
            plan: None,
            tasks: BTreeMap::new(),
            layers: Vec::new(),
            through: BTreeSet::new(),
            received_before: 0,
            received: 0,
            samples: VecDeque::from([(now, 0)]),
        }
    }

    /// Takes in a notice.
    pub(super) fn apply(&mut self, notice: &Notice, now: Instant) {
        match notice {
            Notice::Planned(plan) => {
                self.plan = Some(*plan);
                self.samples = VecDeque::from([(now, self.received)]);
            }
            Notice::Started(work) => self.start(work),
            Notice::Finished { id, done } => self.finish(*id, *done),
            Notice::Warning(_) => {}
        }
    }

    fn start(&mut self, work: &Arc<Work>) {
        self.tasks.insert(
            work.id,
            Active {
                work: Arc::clone(work),
                bytes_at_start: work.bytes(),
            },
        );
        match &work.kind {
            Kind::Resolve { .. } => {}
            Kind::Download { digest } => self.layer(digest, work.total).download = Some(work.id),
            Kind::Extract { digest, .. } => self.layer(digest, work.total).extract = Some(work.id),
        }
    }

    fn layer(&mut self, digest: &str, total: u64) -> &mut Layer {
        let position = self
            .layers
            .iter()
            .position(|layer| layer.digest == digest)
            .unwrap_or_else(|| {
                let digest = digest.to_owned();
                self.layers.push(Layer {
                    digest,
                    total,
                    download: None,
                    extract: None,
                    downloaded: 0,
                    extracted: 0,
                });
                self.layers.len() - 1
            });
        &mut self.layers[position]
    }

    fn finish(&mut self, id: u64, done: bool) {
        let Some(active) = self.tasks.remove(&id) else { return };
        let digest = match &active.work.kind {
            Kind::Resolve { .. } => return,
            Kind::Download { digest } => {
                self.received_before += active.gained();
                digest
            }
            Kind::Extract { digest, .. } => {
                if done {
                    self.through.insert(digest.clone());
                }
                digest
            }
        };
        let through = self.through.contains(digest);
        self.layers.retain_mut(|layer| {
            layer.observe(&active.work);
            layer.download = layer.download.filter(|task| *task != id);
            layer.extract = layer.extract.filter(|task| *task != id);
            let is_it = layer.digest == *digest;
            !(is_it && layer.download.is_none() && layer.extract.is_none() && (through || !done))
        });
    }

    /// Reads how far the tasks are.
    pub(super) fn sample(&mut self, now: Instant) {
        let mut received = self.received_before;
        for active in self.tasks.values() {
            if let Kind::Download { .. } = active.work.kind {
                received += active.gained();
            }
            for layer in &mut self.layers {
                layer.observe(&active.work);
            }
        }
        self.received = self.received.max(received);
        self.samples.push_back((now, self.received));
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes to receive altogether; what was received may be more when something had to be fetched again.
    pub(super) fn to_receive(&self) -> u64 {
        self.plan.map_or(0, |plan| plan.bytes_to_fetch).max(self.received)
    }

    /// Layers of all images.
    pub(super) fn layers_total(&self) -> usize {
        self.plan.map_or(0, |plan| plan.layers)
    }

    /// Layers that are in the store, those from before included.
    pub(super) fn layers_through(&self) -> usize {
        self.through.len() + self.plan.map_or(0, |plan| plan.layers_present)
    }

    /// Bytes per second over the last seconds.
    pub(super) fn rate(&self) -> Option<u64> {
        let ((first, from), (last, to)) = (self.samples.front()?, self.samples.back()?);
        let milliseconds = last.duration_since(*first).as_millis();
        if milliseconds < 100 {
            return None;
        }
        u64::try_from(u128::from(to - from) * 1000 / milliseconds).ok()
    }

    /// How long the rest of the download takes at the present speed.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let left = self.to_receive() - self.received;
        let rate = self.rate().filter(|rate| *rate > 0)?;
        (left > 0).then(|| Duration::from_secs(left.div_ceil(rate)))
    }

    /// Names that are being resolved.
    pub(super) fn resolving(&self) -> impl Iterator<Item = &str> {
        self.tasks.values().filter_map(|active| match &active.work.kind {
            Kind::Resolve { reference } => Some(reference.as_str()),
            Kind::Download { .. } | Kind::Extract { .. } => None,
        })
    }
}

impl Layer {
    fn observe(&mut self, work: &Work) {
        if self.extract == Some(work.id) {
            self.extracted = self.extracted.max(work.bytes());
            // What is extracted has been there, be it from an earlier pull.
            self.downloaded = self.downloaded.max(self.extracted);
        } else if self.download == Some(work.id) {
            self.downloaded = self.downloaded.max(work.bytes());
        }
    }

    /// Whether its bytes still arrive.
    pub(super) fn is_downloading(&self) -> bool {
        self.download.is_some()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::Gauge;
    use super::*;

    /// A task with bytes that a test sets.
    pub(in super::super) fn work(id: u64, kind: Kind, total: u64) -> (Notice, Arc<AtomicU64>) {
        let bytes = Arc::new(AtomicU64::new(0));
        (
            Notice::Started(Arc::new(Work {
                id,
                kind,
                total,
                gauge: Gauge::Fixed(Arc::clone(&bytes)),
            })),
            bytes,
        )
    }

    pub(in super::super) fn download(id: u64, digest: &str, total: u64) -> (Notice, Arc<AtomicU64>) {
        work(
            id,
            Kind::Download {
                digest: digest.to_owned(),
            },
            total,
        )
    }

    pub(in super::super) fn extract(id: u64, digest: &str, total: u64) -> (Notice, Arc<AtomicU64>) {
        work(
            id,
            Kind::Extract {
                digest: digest.to_owned(),
                diff_id: "sha256:d".to_owned(),
            },
            total,
        )
    }

    fn planned(layers: usize, layers_present: usize, bytes_to_fetch: u64) -> Notice {
        Notice::Planned(Plan {
            layers,
            layers_present,
            bytes_to_fetch,
        })
    }

    #[test]
    fn a_layer_is_shown_from_its_first_byte_until_it_is_through() {
        let now = Instant::now();
        let mut model = Model::new(now);
        model.apply(&planned(3, 1, 150), now);
        let (started, received) = download(1, "sha256:a", 100);
        model.apply(&started, now);
        let (started, extracted) = extract(2, "sha256:a", 100);
        model.apply(&started, now);
        received.store(80, Ordering::Relaxed);
        extracted.store(30, Ordering::Relaxed);
        model.sample(now + Duration::from_secs(1));
        assert_eq!(
            (
                model.layers.len(),
                model.layers[0].downloaded,
                model.layers[0].extracted
            ),
            (1, 80, 30)
        );
        assert_eq!(
            (model.received(), model.to_receive(), model.layers_through()),
            (80, 150, 1)
        );
        assert_eq!(
            (model.rate(), model.time_left()),
            (Some(80), Some(Duration::from_secs(1)))
        );

        received.store(100, Ordering::Relaxed);
        model.apply(&Notice::Finished { id: 1, done: true }, now);
        assert!(!model.layers[0].is_downloading());
        model.apply(&Notice::Finished { id: 2, done: true }, now);
        model.sample(now + Duration::from_secs(2));
        assert!(model.layers.is_empty() && model.tasks.is_empty());
        assert_eq!(
            (model.received(), model.layers_through(), model.layers_total()),
            (100, 2, 3)
        );
    }

    #[test]
    fn nothing_goes_back_when_a_layer_is_fetched_again() {
        let now = Instant::now();
        let mut model = Model::new(now);
        model.apply(&planned(1, 0, 100), now);
        for id in [1, 2] {
            let (started, received) = download(id, "sha256:a", 100);
            model.apply(&started, now);
            model.sample(now);
            assert_eq!(model.received(), (id - 1) * 60);
            received.store(60, Ordering::Relaxed);
            model.sample(now);
            model.apply(&Notice::Finished { id, done: false }, now);
        }
        model.sample(now);
        assert_eq!((model.received(), model.to_receive()), (120, 120));
        assert!(model.layers.is_empty());
    }

    #[test]
    fn the_bytes_of_an_earlier_pull_are_no_speed() {
        let now = Instant::now();
        let mut model = Model::new(now);
        model.apply(&planned(1, 0, 40), now);
        let (started, received) = download(1, "sha256:a", 100);
        received.store(60, Ordering::Relaxed);
        model.apply(&started, now);
        received.store(70, Ordering::Relaxed);
        model.sample(now + Duration::from_secs(1));
        assert_eq!(
            (model.received(), model.rate(), model.layers[0].downloaded),
            (10, Some(10), 70)
        );
    }
}
