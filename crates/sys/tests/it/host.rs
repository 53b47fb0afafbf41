//! Questions to the host, directories, and syncing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use unlade_sys::{create_dir, create_private_dir, free_space, is_network_filesystem};

#[test]
fn the_boot_id_is_a_uuid_and_stays() {
    let id = unlade_sys::boot_id().unwrap();
    assert_eq!(id.len(), 36, "{id}");
    assert!(id.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{id}");
    assert_eq!(unlade_sys::boot_id().unwrap(), id);
}

#[test]
fn free_space_is_within_the_filesystem() {
    let directory = tempfile::tempdir().unwrap();
    let space = free_space(directory.path()).unwrap();
    assert!(space.bytes <= space.total_bytes);
    assert!(space.total_bytes > 0);
    assert_ne!(space.inodes, Some(0));
    assert!(
        free_space(&directory.path().join("missing"))
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn proc_is_not_on_the_network() {
    assert!(!is_network_filesystem(Path::new("/proc")).unwrap());
}

#[test]
fn a_private_directory_and_those_above() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/c");
    create_private_dir(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
    assert_ne!(mode(&directory.path().join("a")), 0o700);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
    create_private_dir(&path).unwrap();
    assert_eq!(mode(&path), 0o750, "one that exists keeps its mode");

    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    create_private_dir(&link).unwrap();

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(
        create_private_dir(&file).unwrap_err().kind(),
        std::io::ErrorKind::AlreadyExists
    );
    assert_eq!(
        create_private_dir(&file.join("x")).unwrap_err().kind(),
        std::io::ErrorKind::NotADirectory
    );
}

#[test]
fn the_mode_of_a_directory_is_the_one_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("open");
    assert!(create_dir(&path, 0o777).unwrap());
    assert!(!create_dir(&path, 0o700).unwrap());
    assert_eq!(mode(&path), 0o777);
}

#[test]
fn syncing_works_on_what_exists() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "content").unwrap();
    unlade_sys::sync_file(&file).unwrap();
    unlade_sys::sync_directory(directory.path()).unwrap();
    unlade_sys::sync_filesystem(directory.path()).unwrap();
    unlade_sys::sync_filesystem(&file).unwrap();
    assert_eq!(
        unlade_sys::sync_directory(&file).unwrap_err().kind(),
        std::io::ErrorKind::NotADirectory
    );
    assert!(
        unlade_sys::sync_file(&directory.path().join("missing"))
            .unwrap_err()
            .is_not_found()
    );
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
