//! A thread that can write below one directory only, whatever else goes wrong: Landlock.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use crate::Dir;

/// Why a thread could not be confined; it is as free as before.
#[derive(Debug, thiserror::Error)]
#[error("the thread cannot be confined: {reason}")]
pub struct Unconfined {
    /// What is missing, in words.
    reason: String,
}

/// Confines the calling thread, and all that it starts, for the rest of their lives: files are made, changed, renamed and
/// removed below `directory` alone, no TCP connection is made or taken, and no other process gets a signal.
///
/// Reading is left as it was, and so is everything on descriptors that are open already. Rights of root do not help against
/// it. Threads that were running before are not affected.
///
/// # Errors
/// The kernel has no Landlock (Linux 5.13), it was not started, or it is the first version, which allows no hard links from
/// one directory to another (before Linux 5.19).
pub fn confine_thread(directory: &Dir) -> Result<(), Unconfined> {
    let status = restrict(directory).map_err(|error| Unconfined {
        reason: error.to_string(),
    })?;
    match status {
        RulesetStatus::NotEnforced => Err(Unconfined {
            reason: "this kernel does not offer Landlock".to_owned(),
        }),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn restrict(directory: &Dir) -> Result<RulesetStatus, RulesetError> {
    // What later versions added is taken where the kernel has it.
    let writing = AccessFs::from_write(ABI::V5);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(ABI::V2))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writing)?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?;
    let status = ruleset
        .create()?
        .add_rule(PathBeneath::new(directory, writing))?
        .restrict_self()?;
    Ok(status.ruleset)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// The version of the kernel.
    fn release() -> (u32, u32) {
        let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap(), parts.next().unwrap())
    }

    #[test]
    fn a_confined_thread_writes_below_its_directory_alone() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        fs::create_dir_all(at("inside/a")).unwrap();
        fs::create_dir_all(at("inside/b")).unwrap();
        fs::write(at("outside"), "untouched").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let directory = Dir::open(&at("inside")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                confine_thread(&directory).expect("a kernel with Landlock; `unlade` works without, this test does not");
                fs::write(at("inside/a/file"), "x").unwrap();
                fs::hard_link(at("inside/a/file"), at("inside/b/file")).unwrap();
                fs::rename(at("inside/b/file"), at("inside/a/again")).unwrap();
                fs::remove_file(at("inside/a/again")).unwrap();
                assert_eq!(fs::read_to_string(at("outside")).unwrap(), "untouched");
                let refused = |what: &str, result: std::io::Result<()>| {
                    let kind = result.expect_err(what).kind();
                    assert!(
                        matches!(kind, ErrorKind::PermissionDenied | ErrorKind::CrossesDevices),
                        "{what}: {kind}"
                    );
                };
                refused("make", fs::write(at("new"), "x"));
                refused("change", fs::write(at("outside"), "x"));
                refused("remove", fs::remove_file(at("outside")));
                refused("link", fs::hard_link(at("outside"), at("inside/stolen")));
                refused("move in", fs::rename(at("outside"), at("inside/stolen")));
                refused("move out", fs::rename(at("inside/a/file"), at("leaked")));
                // A thread that a confined one starts is confined.
                let child = std::thread::spawn({
                    let new = at("new");
                    move || fs::write(new, "x")
                });
                refused("make in a child", child.join().unwrap());
                // Before Linux 6.7 Landlock knows nothing of the network.
                assert_eq!(TcpStream::connect(address).is_ok(), release() < (6, 7));
            });
        });
        // Others are as free as before.
        fs::write(at("new"), "x").unwrap();
        assert_eq!(fs::read_to_string(at("outside")).unwrap(), "untouched");
    }
}
