//! A real image: Debian with nginx, made by mmdebstrap, through a real registry.

use std::path::{Path, PathBuf};

use unlade_tests::{Home, Pulled, RealRegistry, real};

use crate::real_images::merged;

/// What the image is known by.
const NGINX_FILES: [&str; 3] = [
    "etc/nginx/nginx.conf",
    "etc/nginx/conf.d/default.conf",
    "usr/sbin/nginx",
];

fn assert_has_nginx(pulled: &Pulled) {
    assert_eq!(pulled.directories.len(), 3);
    for file in NGINX_FILES {
        let holders: Vec<&Path> = pulled
            .directories
            .iter()
            .map(PathBuf::as_path)
            .filter(|directory| directory.join(file).is_file())
            .collect();
        assert_eq!(
            holders,
            [&pulled.directories[1]],
            "{file} is in the second layer and in no other"
        );
    }
}

#[test]
fn privileged_real_debian_image_is_what_umoci_unpacks() {
    let (registry, home) = (RealRegistry::start(), Home::new());
    let reference = registry.push_layout(&real::debian_layout(), "latest", "debian");
    let pulled = home.pull(&reference);
    assert_has_nginx(&pulled);
    let tree = merged(&pulled);
    assert!(tree.len() > 5000, "{} paths", tree.len());
    let reference = real::reference_tree(&registry, "debian", "latest", go_architecture());
    tree.assert_same(&reference.without_root());
    home.leftovers().assert_nothing_half_done();
}

#[test]
fn privileged_real_debian_image_is_for_ordinary_users_too() {
    let (registry, root, user) = (RealRegistry::start(), Home::new(), Home::of_nobody());
    let reference = registry.push_layout(&real::debian_layout(), "latest", "debian");
    let as_root = root.pull(&reference);
    let as_user = user.pull(&reference);
    assert_has_nginx(&as_user);
    crate::ordinary_user::assert_as_root_but_for_rights(&as_user, &as_root);
    user.unlade(["rm", &reference]).run().success();
    user.leftovers().assert_nothing();
}

/// The image is for the machine that it was made on.
fn go_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}
