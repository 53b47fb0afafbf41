//! Followers: every byte, in order, as it arrives; and an error, at once, when it will not arrive.

use std::io::{self, Read};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use unlade_blobs::{FollowError, Follower, hash};
use unlade_oci::{Algorithm, Digest};

use crate::{Fixture, content, owned};

fn read_all(mut follower: Follower) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    follower.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a follower that waits in another thread gets to see after `end`.
fn waiting_follower_sees(end: impl FnOnce(unlade_blobs::Ingest, unlade_blobs::CancelHandle)) -> FollowError {
    let fixture = Fixture::new();
    let bytes = content(1_000);
    let mut ingest = owned(&fixture.store, &Digest::sha256(&bytes), 1_000);
    let mut follower = ingest.follower().unwrap();
    let cancel = follower.cancel_handle();
    let (arrived, arrival) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut buffer = [0; 600];
        follower.read_exact(&mut buffer).unwrap();
        arrived.send(buffer.to_vec()).unwrap();
        let error = follower.read(&mut buffer).unwrap_err();
        // It stays so.
        assert_eq!(
            FollowError::find(&follower.read(&mut buffer).unwrap_err()),
            FollowError::find(&error)
        );
        error
    });
    ingest.append(&bytes[..600]).unwrap();
    assert_eq!(arrival.recv().unwrap(), &bytes[..600]);
    thread::sleep(Duration::from_millis(20));
    end(ingest, cancel);
    let error = reader.join().unwrap();
    assert_ne!(error.kind(), io::ErrorKind::Interrupted, "would be tried again");
    FollowError::find(&error).unwrap().clone()
}

#[test]
fn a_slow_writer() {
    let fixture = Fixture::new();
    let bytes = content(200_000);
    let digest = Digest::sha256(&bytes);
    let mut ingest = owned(&fixture.store, &digest, 200_000);
    let follower = ingest.follower().unwrap();
    let reader = thread::spawn(move || read_all(follower).unwrap());
    for (number, chunk) in bytes.chunks(7_001).enumerate() {
        ingest.append(chunk).unwrap();
        if number % 3 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    ingest.complete().unwrap();
    assert_eq!(reader.join().unwrap(), bytes);
}

#[test]
fn a_slow_reader_is_not_waited_for() {
    let fixture = Fixture::new();
    let bytes = content(100_000);
    let digest = Digest::sha256(&bytes);
    let mut ingest = owned(&fixture.store, &digest, 100_000);
    let mut follower = ingest.follower().unwrap();
    ingest.append(&bytes).unwrap();
    ingest.complete().unwrap();
    ingest.publish(&digest, 100_000).unwrap();
    // The ingest is gone and the blob has its name: the follower still has its file.
    let mut seen = Vec::new();
    let mut buffer = [0; 333];
    loop {
        let count = follower.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        seen.extend_from_slice(&buffer[..count]);
        assert_eq!(follower.position(), seen.len() as u64);
    }
    assert_eq!(seen, bytes);
}

#[test]
fn several_followers_start_at_the_first_byte() {
    let fixture = Fixture::new();
    let bytes = content(50_000);
    let digest = Digest::sha256(&bytes);
    let mut ingest = owned(&fixture.store, &digest, 50_000);
    let early = ingest.follower().unwrap();
    ingest.append(&bytes[..20_000]).unwrap();
    let late = ingest.follower().unwrap();
    let readers = [early, late].map(|follower| thread::spawn(move || hash(follower, Algorithm::Sha256).unwrap()));
    ingest.append(&bytes[20_000..]).unwrap();
    ingest.complete().unwrap();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (digest.clone(), 50_000));
    }
}

/// All bytes being there is not the end; only `complete` is.
#[test]
fn the_end_is_seen_after_complete_only() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    let mut ingest = owned(&fixture.store, &digest, 5);
    let follower = ingest.follower().unwrap();
    let reader = thread::spawn(move || read_all(follower).unwrap());
    ingest.append(b"bytes").unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(!reader.is_finished());
    ingest.complete().unwrap();
    assert_eq!(reader.join().unwrap(), b"bytes");
}

#[test]
fn an_empty_blob() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("");
    let mut ingest = owned(&fixture.store, &digest, 0);
    let follower = ingest.follower().unwrap();
    ingest.complete().unwrap();
    assert_eq!(read_all(follower).unwrap(), b"");
    ingest.publish(&digest, 0).unwrap();
    assert_eq!(fixture.store.size(&digest).unwrap(), Some(0));
}

#[test]
fn failing() {
    let seen = waiting_follower_sees(|mut ingest, _| {
        ingest.fail("the registry answered 500");
        ingest.fail("and this comes too late");
        drop(ingest);
    });
    assert_eq!(
        seen,
        FollowError::Failed {
            message: "the registry answered 500".into()
        }
    );
    assert!(seen.to_string().contains("the registry answered 500"));
}

#[test]
fn dropping() {
    assert_eq!(waiting_follower_sees(|ingest, _| drop(ingest)), FollowError::Abandoned);
}

#[test]
fn discarding() {
    assert_eq!(
        waiting_follower_sees(|ingest, _| ingest.discard().unwrap()),
        FollowError::Abandoned
    );
}

#[test]
fn cancelling() {
    assert_eq!(
        waiting_follower_sees(|ingest, cancel| {
            cancel.cancel();
            thread::sleep(Duration::from_millis(20));
            drop(ingest);
        }),
        FollowError::Cancelled
    );
}

#[test]
fn too_many_bytes() {
    let seen = waiting_follower_sees(|mut ingest, _| {
        ingest.append(&[0; 401]).unwrap_err();
    });
    assert!(matches!(seen, FollowError::Failed { message } if message.contains("1001")));
}

#[test]
fn publishing_the_wrong_content() {
    let seen = waiting_follower_sees(|ingest, _| {
        ingest.publish(&Digest::sha256("something else"), 1_000).unwrap_err();
    });
    assert_eq!(seen, FollowError::Abandoned);
}

/// A panic of the appending side is a drop like any other.
#[test]
fn a_panic_of_the_writer_does_not_leave_the_reader_waiting() {
    let fixture = Fixture::new();
    let mut ingest = owned(&fixture.store, &Digest::sha256("bytes"), 5);
    let follower = ingest.follower().unwrap();
    let reader = thread::spawn(move || read_all(follower).unwrap_err());
    let writer = thread::spawn(move || {
        ingest.append(b"by").unwrap();
        panic!("on purpose");
    });
    assert!(writer.join().is_err());
    assert_eq!(
        FollowError::find(&reader.join().unwrap()),
        Some(&FollowError::Abandoned)
    );
}

#[test]
fn a_failure_does_not_wait_for_a_reader_that_is_behind() {
    let fixture = Fixture::new();
    let bytes = content(1_000);
    let mut ingest = owned(&fixture.store, &Digest::sha256(&bytes), 2_000);
    let mut follower = ingest.follower().unwrap();
    ingest.append(&bytes).unwrap();
    ingest.fail("gone");
    assert!(follower.read(&mut [0; 10]).is_err());
    assert_eq!(follower.read(&mut []).unwrap(), 0, "nothing was asked for");
}

#[test]
fn one_cancelled_follower_does_not_disturb_the_others() {
    let fixture = Fixture::new();
    let mut ingest = owned(&fixture.store, &Digest::sha256("bytes"), 5);
    let (one, two) = (ingest.follower().unwrap(), ingest.follower().unwrap());
    one.cancel_handle().cancel();
    ingest.append(b"bytes").unwrap();
    ingest.complete().unwrap();
    assert_eq!(
        FollowError::find(&read_all(one).unwrap_err()),
        Some(&FollowError::Cancelled)
    );
    assert_eq!(read_all(two).unwrap(), b"bytes");
}

#[test]
fn a_file_that_was_cut_is_an_error_and_not_an_end() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    let mut ingest = owned(&fixture.store, &digest, 5);
    let mut follower = ingest.follower().unwrap();
    ingest.append(b"bytes").unwrap();
    let path = fixture
        .store
        .root()
        .join("ingest")
        .join(format!("sha256-{}", digest.hex()));
    std::fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(0)
        .unwrap();
    assert_eq!(
        follower.read(&mut [0; 5]).unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

/// A waiting follower uses no processor time: a loop that polls would show within a tenth of a second.
#[test]
fn waiting_is_not_busy() {
    let fixture = Fixture::new();
    let ingest = owned(&fixture.store, &Digest::sha256("bytes"), 5);
    let mut follower = ingest.follower().unwrap();
    let (started, start) = mpsc::channel();
    let reader = thread::spawn(move || {
        started.send(()).unwrap();
        let before = thread_time();
        let started = Instant::now();
        follower.read(&mut [0; 5]).unwrap_err();
        (started.elapsed(), thread_time().saturating_sub(before))
    });
    start.recv().unwrap();
    thread::sleep(Duration::from_millis(500));
    drop(ingest);
    let (waited, worked) = reader.join().unwrap();
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
    assert!(worked <= Duration::from_millis(50), "{worked:?} of work in {waited:?}");
}

/// The processor time of the calling thread, by the clock ticks in `/proc/thread-self/stat` (100 a second).
fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let ticks: u64 = fields[11..=12].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn progress_counts_what_arrived() {
    let fixture = Fixture::new();
    let digest = Digest::sha256("bytes");
    let mut ingest = owned(&fixture.store, &digest, 5);
    let progress = ingest.progress();
    assert_eq!(progress.bytes(), 0);
    ingest.append(b"byt").unwrap();
    assert_eq!(progress.clone().bytes(), 3);
    drop(ingest);
    assert_eq!(
        owned(&fixture.store, &digest, 5).progress().bytes(),
        3,
        "those of earlier runs count"
    );
}
