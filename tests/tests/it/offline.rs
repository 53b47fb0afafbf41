//! Where there is no network at all: what is complete is found, and what is not is said to be missing.

use unlade_test_support::fixtures;
use unlade_tests::Home;

use crate::support::serve;

#[test]
fn privileged_without_a_network_what_is_complete_is_found() {
    let (_registry, reference) = serve(&fixtures::web());
    let home = Home::new();
    let pulled = home.pull(&reference);
    let (name, _) = reference.rsplit_once(':').unwrap();
    let by_digest = format!("{name}@{}", pulled.manifest);
    for arguments in [
        &["pull", "--policy", "never", &reference][..],
        &["pull", &reference],
        &["pull", &by_digest],
        &["pull", "--policy", "never", &by_digest],
        &["inspect", &by_digest],
        &["verify", "--deep"],
    ] {
        // Not even the loopback interface is up, and the registry's port is on the other side.
        home.unlade(arguments.iter().copied()).without_network().run().success();
    }
    let absent = format!("{name}:absent");
    for arguments in [
        ["pull", "--policy", "never", &absent],
        ["pull", "--policy", "never", "docker.io/library/absent"],
    ] {
        home.unlade(arguments).without_network().run().failure(3);
    }
    home.unlade(["pull", "--policy", "always", "--retries", "0", &reference])
        .without_network()
        .run()
        .failure(5);
    // What has lost a directory is made again from the blobs.
    std::fs::remove_dir_all(&pulled.directories[0]).unwrap();
    home.unlade(["pull", "--policy", "never", &reference])
        .without_network()
        .run()
        .success();
    assert!(pulled.directories[0].is_dir());
}
