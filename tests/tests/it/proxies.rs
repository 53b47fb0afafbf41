//! Registries that are reached through a proxy alone: the command in one network namespace, they in another.

use std::fs;

use unlade_test_support::{Artifact as _, Authority, fixtures};
use unlade_tests::{FarSide, Finished, Home, Pulled, RealProxy, RealRegistry};

/// A home that sends `localhost` to the proxy too, since the registry is on the loopback interface of the far side.
fn home() -> Home {
    let home = Home::new();
    let config = home.path("home/.config/unlade");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "[proxy]\nloopback = true\n").unwrap();
    home
}

#[test]
fn privileged_real_proxies_lead_where_nothing_else_does() {
    let sides = FarSide::new();
    let registry = RealRegistry::start_in(sides.far());
    let reference = registry.push("team/web", "1", &fixtures::web());
    let http = RealProxy::tinyproxy(&sides, Some(("me", "hunter2")));
    let socks = RealProxy::microsocks(&sides, Some(("me", "hunter2")));

    let direct = sides.near(home().unlade(["pull", &reference, "--no-proxy"]));
    direct
        .env("ALL_PROXY", format!("http://me:hunter2@{}", http.host()))
        .run()
        .failure(5);

    for (scheme, proxy) in [("http", &http), ("socks5h", &socks), ("socks5", &socks)] {
        let pull = |login: &str| {
            let home = home();
            let pull = sides.near(home.unlade(["pull", &reference]));
            let variable = format!("{scheme}://{login}{}", proxy.host());
            (pull.env("http_proxy", variable).run(), home)
        };
        let (finished, home) = pull("me:hunter2@");
        finished.success();
        home.leftovers().assert_nothing_half_done();

        let proxy = format!("the proxy {scheme}://{}", proxy.host());
        let finished = pull("").0.failure(4);
        assert!(
            finished.stderr.contains(&format!("{proxy} wants a login")),
            "{finished}"
        );
        // tinyproxy answers a wrong login with 401, as if it were the registry.
        let finished = pull("me:hunter3@").0.failure(4);
        assert!(finished.stderr.contains(&proxy), "{finished}");
        assert!(!finished.stderr.contains("hunter"), "{finished}");
    }
    assert!(http.log().contains("/v2/team/web/blobs/sha256:"), "{}", http.log());
}

#[test]
fn privileged_real_proxies_make_tunnels_for_tls() {
    let sides = FarSide::new();
    let authority = Authority::new();
    let registry = RealRegistry::start_with_password_and_tls_in(sides.far(), &authority.server(&["127.0.0.1"]));
    let image = fixtures::web();
    let reference = registry.push("team/web", "1", &image);
    let login = Some(("me", "hunter2"));
    let open = RealProxy::tinyproxy(&sides, None);
    let closed = RealProxy::tinyproxy(&sides, login);
    let socks = RealProxy::microsocks(&sides, login);

    let pull = |variable: &str, proxy: &str, authority: &Authority, password: &str| -> (Finished, Home) {
        let home = home();
        let ca = authority.write(&home.path("ca.pem"));
        let given = [
            "--format",
            "json",
            "pull",
            &reference,
            "--username",
            "alice",
            "--password-stdin",
        ];
        let pull = sides.near(home.unlade(given)).env(variable, proxy);
        (pull.arg("--ca-file").arg(ca).stdin(password).run(), home)
    };
    for (scheme, proxy, login) in [
        ("http", &open, ""),
        ("http", &closed, "me:hunter2@"),
        ("socks5h", &socks, "me:hunter2@"),
        ("socks5", &socks, "me:hunter2@"),
    ] {
        let url = format!("{scheme}://{login}{}", proxy.host());
        let (finished, home) = pull("https_proxy", &url, &authority, "hunter2");
        let pulled = Pulled::of(&finished.success().json());
        assert_eq!(pulled.manifest, image.digest().to_string());
        home.leftovers().assert_nothing_half_done();

        // Whose certificate, and whose login, is wrong is told apart: those of the registry are its own.
        let (finished, _) = pull("ALL_PROXY", &url, &Authority::new(), "hunter2");
        let finished = finished.failure(5);
        assert!(
            finished.stderr.contains("is of no authority that is trusted here"),
            "{finished}"
        );
        let (finished, _) = pull("HTTPS_PROXY", &url, &authority, "wrong");
        let finished = finished.failure(4);
        assert!(!finished.stderr.contains("wants a login, or another one"), "{finished}");
        assert!(!finished.stderr.contains("hunter2"), "{finished}");
    }
    for (scheme, proxy) in [("http", &closed), ("socks5h", &socks)] {
        for login in ["", "me:hunter3@", "you:hunter2@"] {
            let url = format!("{scheme}://{login}{}", proxy.host());
            let (finished, home) = pull("https_proxy", &url, &authority, "hunter2");
            let finished = finished.failure(4);
            let expected = format!("the proxy {scheme}://{} wants a login", proxy.host());
            assert!(finished.stderr.contains(&expected), "{finished}");
            assert!(!finished.stderr.contains("hunter"), "{finished}");
            assert!(home.images().is_empty());
        }
    }
    // Of a tunnel the proxy sees where it leads and nothing else.
    for proxy in [&open, &closed] {
        let log = proxy.log();
        assert!(log.contains(&format!("CONNECT {}", registry.host())), "{log}");
        assert!(!log.contains("team/web"), "{log}");
    }
}
