//! One blob over several connections.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use unlade_oci::ErrorClass;
use unlade_pull::{Budget, Error, Limits, Options, Pulled, Puller};
use unlade_reference::Reference;
use unlade_registry::{Client, RetryPolicy};
use unlade_test_support::{FakeRegistry, Fault, Gate, ImageBuilder, Layer};

use crate::support::{Home, client, fat_layer};

const MIB: u64 = 1 << 20;

struct Fixture {
    registry: FakeRegistry,
    reference: String,
    layer: Layer,
    home: Home,
}

impl Fixture {
    /// A registry with an image of one layer of a little more than 20 MiB.
    fn start() -> Self {
        let layer = fat_layer("fat", 20 << 20);
        let registry = FakeRegistry::start();
        registry.push("app", "latest", &ImageBuilder::new().layer(layer.clone()).build());
        let reference = registry.reference("app", "latest");
        let home = Home::new();
        Self {
            registry,
            reference,
            layer,
            home,
        }
    }

    fn puller(&self, connections: usize, ranges: usize) -> Puller {
        let limits = Limits {
            connections: NonZeroUsize::new(connections).unwrap(),
            ranges: NonZeroUsize::new(ranges).unwrap(),
            ranges_from: MIB,
            ..Limits::default()
        };
        Puller::new(self.home.store.clone(), client())
            .with_observer(Arc::clone(&self.home.recorder) as _)
            .with_budget(Budget::new(limits))
    }

    async fn pull(&self, connections: usize, ranges: usize) -> Result<Vec<Pulled>, Error> {
        let reference: Reference = self.reference.parse().unwrap();
        self.puller(connections, ranges)
            .pull(&[reference], &Options::default())
            .await
    }

    /// The requests for the layer: the `Range` header of each and the status of the answer.
    fn requests(&self) -> Vec<(Option<String>, u16)> {
        let end = format!("/blobs/{}", self.layer.digest);
        let requests = self.registry.requests().into_iter();
        requests
            .filter(|request| request.path.ends_with(&end))
            .map(|request| (request.range, request.status))
            .collect()
    }

    fn served(&self) -> u64 {
        self.registry.blob_bytes_served(&self.layer.digest)
    }

    /// Fails unless the layer is in the store and nothing is half done.
    fn assert_complete(&self) {
        self.home.store.blobs().verify(&self.layer.digest).unwrap();
        assert!(self.home.partial_downloads().is_empty());
        assert_eq!(self.home.layer_directories().len(), 1);
    }

    fn assert_served_once(&self) {
        let (served, size) = (self.served(), self.layer.size());
        assert!((size..=size + size / 20).contains(&served), "{served} of {size}");
    }
}

#[tokio::test]
async fn parts_are_fetched_at_the_same_time() {
    let fixture = Fixture::start();
    // The front is held until others have come, so they do come beside it.
    let gate = Gate::new();
    let front = Fault::on_blob(&fixture.layer.digest).nth(1).hold_after(MIB, &gate);
    fixture.registry.fault(front);
    let others = async {
        while fixture.requests().len() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gate.open();
    };
    let (pulled, ()) = tokio::join!(fixture.pull(6, 4), others);
    pulled.unwrap();
    fixture.assert_complete();
    fixture.assert_served_once();
    assert!(fixture.registry.peak_blob_requests() <= 4);
    assert_eq!(fixture.requests()[0].0.as_deref(), Some("bytes=0-4194303"));
    assert!(fixture.requests().iter().all(|(_, status)| *status == 206));
}

#[tokio::test]
async fn a_small_blob_and_one_connection_need_one_request() {
    let fixture = Fixture::start();
    let reference: Reference = fixture.reference.parse().unwrap();
    let limits = Limits {
        ranges: NonZeroUsize::MIN,
        ..Limits::default()
    };
    for budget in [Budget::default(), Budget::new(limits)] {
        let home = Home::new();
        fixture.registry.clear();
        let puller = Puller::new(home.store.clone(), client()).with_budget(budget);
        let references = std::slice::from_ref(&reference);
        puller.pull(references, &Options::default()).await.unwrap();
        assert_eq!(fixture.requests(), [(None, 200)]);
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_ranges_sends_the_blob_once() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_blobs().ignore_range());
    fixture.pull(6, 4).await.unwrap();
    fixture.assert_complete();
    assert_eq!(fixture.served(), fixture.layer.size());
    assert_eq!(fixture.requests().len(), 1);
}

#[tokio::test]
async fn a_server_that_forgets_ranges_sends_the_blob_at_most_once_more() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_blob(&fixture.layer.digest).from(3).ignore_range());
    fixture.pull(6, 4).await.unwrap();
    fixture.assert_complete();
    // Answers that were not asked for are dropped when they begin.
    let (_, last) = fixture.requests().pop().unwrap();
    assert_eq!(last, 200);
    assert!(fixture.served() <= 3 * fixture.layer.size(), "{}", fixture.served());
}

#[tokio::test]
async fn each_part_goes_on_where_its_connection_broke() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_blob(&fixture.layer.digest).cut_after(3 * MIB / 2));
    fixture.pull(6, 4).await.unwrap();
    fixture.assert_complete();
    fixture.assert_served_once();
}

#[tokio::test]
async fn wrong_bytes_in_one_part_are_found_out() {
    let fixture = Fixture::start();
    fixture.registry.fault(Fault::on_blobs().corrupt_at(9 * MIB));
    let error = fixture.pull(6, 4).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
    assert!(fixture.home.partial_downloads().is_empty());
}

#[tokio::test]
async fn one_connection_is_enough() {
    let fixture = Fixture::start();
    fixture.pull(1, 4).await.unwrap();
    fixture.assert_complete();
    fixture.assert_served_once();
    assert_eq!(fixture.registry.peak_blob_requests(), 1);
}

#[tokio::test]
async fn a_server_that_fails_for_good_fails_the_pull_with_its_error() {
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_blob(&fixture.layer.digest).from(3).status(404));
    let error = fixture.pull(6, 4).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound);
    fixture.home.recorder.assert_balanced();
    // Server errors are survived as long as one connection works.
    let fixture = Fixture::start();
    fixture
        .registry
        .fault(Fault::on_blob(&fixture.layer.digest).from(2).status(503));
    let limits = Limits {
        ranges_from: MIB,
        ..Limits::default()
    };
    let policy = RetryPolicy {
        attempts: 2,
        backoff: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let client = Client::builder().retry(policy).build().unwrap();
    let puller = Puller::new(fixture.home.store.clone(), client).with_budget(Budget::new(limits));
    let reference: Reference = fixture.reference.parse().unwrap();
    let error = puller.pull(&[reference], &Options::default()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
}

#[tokio::test]
async fn a_pull_that_is_dropped_is_continued_with_its_gaps() {
    let fixture = Fixture::start();
    let gate = Gate::new();
    let front = Fault::on_blob(&fixture.layer.digest).nth(1).hold_after(MIB, &gate);
    fixture.registry.fault(front);
    let others_done = async {
        // The others have fetched everything but the first part when the pull is dropped.
        while fixture
            .home
            .store
            .blobs()
            .ingests()
            .unwrap()
            .iter()
            .map(|ingest| ingest.bytes)
            .sum::<u64>()
            < 16 * MIB
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        pulled = fixture.pull(6, 4) => panic!("the front is held: {pulled:?}"),
        () = others_done => {}
    }
    gate.open();
    fixture.registry.clear_faults();
    // The threads of the dropped pull may hold the ingest for another moment.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = fixture.served();
    fixture.pull(6, 4).await.unwrap();
    fixture.assert_complete();
    let again = fixture.served() - before;
    assert!(again <= 5 * MIB, "{again} bytes were fetched again");
}
