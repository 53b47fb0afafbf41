//! Which entry of an index is taken on which machine.

use std::collections::BTreeMap;

use unlade_oci::{Descriptor, Digest, MediaType, Platform, PlatformMatcher, platforms_offered};

/// Returns an entry for a platform, or without one for `-`; its size is its position.
fn entry(position: usize, platform: &str) -> Descriptor {
    let mut entry = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(platform), position as u64);
    if platform != "-" {
        // As a document has it, that is not normalised.
        let mut parts = platform.split('/').map(str::to_owned);
        let mut next = || parts.next();
        let (os, architecture, variant) = (next().unwrap_or_default(), next().unwrap_or_default(), next());
        let (os, os_version) = match os.strip_suffix(')').and_then(|os| os.split_once('(')) {
            Some((os, version)) => (os.to_owned(), Some(version.to_owned())),
            None => (os, None),
        };
        entry.platform = Some(Platform {
            os,
            architecture,
            variant,
            os_version,
            os_features: Vec::new(),
        });
    }
    entry
}

fn entries(platforms: &str) -> Vec<Descriptor> {
    platforms
        .split_whitespace()
        .enumerate()
        .map(|(position, platform)| entry(position, platform))
        .collect()
}

#[track_caller]
fn matcher(platform: &str) -> PlatformMatcher {
    PlatformMatcher::new(&platform.parse().unwrap_or_else(|error| panic!("{error}")))
}

/// Checks rows of: wanted, what the index has, and the position of what is taken.
#[track_caller]
fn check<const N: usize>(table: [(&str, &str, Option<u64>); N]) {
    for (wanted, index, expected) in table {
        let entries = entries(index);
        let chosen = matcher(wanted).select(&entries).map(|entry| entry.size);
        assert_eq!(chosen, expected, "{wanted} of {index}");
    }
}

#[test]
fn plain() {
    check([
        ("linux/amd64", "linux/arm64 linux/amd64", Some(1)),
        ("linux/amd64", "linux/arm64 linux/s390x", None),
        ("linux/amd64", "windows/amd64 linux/amd64", Some(1)),
        ("linux/amd64", "", None),
        // The first of equals.
        ("linux/amd64", "linux/amd64 linux/amd64", Some(0)),
        (
            "linux/amd64",
            "linux/arm64 linux/x86_64 linux/amd64/v1 linux/amd64",
            Some(1),
        ),
        ("linux/arm64", "linux/arm64/v8 linux/arm64", Some(0)),
    ]);
}

/// Both sides are normalised.
#[test]
fn spellings() {
    check([
        ("linux/x86_64", "linux/amd64", Some(0)),
        ("linux/amd64", "Linux/X86_64", Some(0)),
        ("linux/aarch64", "linux/arm64/v8", Some(0)),
        ("linux/arm64", "linux/aarch64", Some(0)),
        ("linux/armhf", "linux/arm/v6 linux/arm", Some(1)),
    ]);
}

#[test]
fn amd64_by_level() {
    check([
        // The levels of amd64, by what is wanted; without a level only what runs everywhere.
        (
            "linux/amd64/v4",
            "linux/amd64 linux/amd64/v2 linux/amd64/v3 linux/amd64/v4",
            Some(3),
        ),
        ("linux/amd64/v4", "linux/amd64/v3", Some(0)),
        ("linux/amd64/v3", "linux/amd64/v4 linux/amd64/v2 linux/amd64", Some(1)),
        ("linux/amd64/v2", "linux/amd64/v3 linux/amd64", Some(1)),
        ("linux/amd64/v4", "linux/amd64/v1", Some(0)),
        ("linux/amd64", "linux/amd64/v2", None),
        ("linux/amd64", "linux/amd64/v3 linux/amd64", Some(1)),
        ("linux/amd64/v9", "linux/amd64/v4 linux/amd64", Some(1)),
        // 386 on amd64, and never the other way.
        ("linux/amd64", "linux/386", Some(0)),
        ("linux/amd64/v3", "linux/386 linux/amd64", Some(1)),
        ("linux/386", "linux/amd64", None),
        ("linux/i686", "linux/386", Some(0)),
    ]);
}

/// Downwards only.
#[test]
fn arm() {
    check([
        (
            "linux/arm/v8",
            "linux/arm/v5 linux/arm/v6 linux/arm/v7 linux/arm/v8",
            Some(3),
        ),
        ("linux/arm/v7", "linux/arm/v5 linux/arm/v6 linux/arm/v8", Some(1)),
        ("linux/arm/v6", "linux/arm/v7 linux/arm/v5", Some(1)),
        ("linux/arm/v6", "linux/arm/v7", None),
        ("linux/arm/v6", "linux/arm", None),
        ("linux/arm/v5", "linux/arm/v6 linux/arm/v5", Some(1)),
        ("linux/arm", "linux/arm/v6", Some(0)),
        ("linux/arm", "linux/arm/v6 linux/arm/v7", Some(1)),
    ]);
}

/// arm64, and arm on it.
#[test]
fn arm64() {
    check([
        ("linux/arm64", "linux/arm64", Some(0)),
        ("linux/arm64", "linux/arm/v6 linux/arm/v7 linux/amd64", Some(1)),
        ("linux/arm64", "linux/arm/v7 linux/arm64", Some(1)),
        ("linux/arm/v8", "linux/arm64", None),
        ("linux/arm64", "linux/arm64/v8.1", None),
        (
            "linux/arm64/v8.2",
            "linux/arm64 linux/arm64/v8.1 linux/arm64/v8.3",
            Some(1),
        ),
        ("linux/arm64/v9", "linux/arm64/v8 linux/arm64/v8.5", Some(1)),
        (
            "linux/arm64/v9",
            "linux/arm64/v9.1 linux/arm64/v8.6 linux/arm64",
            Some(2),
        ),
        ("linux/arm64/v9.1", "linux/arm64/v8.6 linux/arm64/v9.0", Some(1)),
    ]);
}

#[test]
fn other_architectures() {
    check([
        ("linux/riscv64", "linux/amd64 linux/riscv64", Some(1)),
        ("linux/riscv64", "linux/riscv64/rva20u64", Some(0)),
        ("linux/riscv64", "linux/riscv64/rva23u64", None),
        (
            "linux/riscv64/rva23u64",
            "linux/riscv64 linux/riscv64/rva22u64",
            Some(1),
        ),
        ("linux/riscv64/rva23u64", "linux/riscv64", Some(0)),
        ("linux/ppc64le", "linux/ppc64 linux/ppc64le", Some(1)),
        (
            "linux/ppc64le/power9",
            "linux/ppc64le/power10 linux/ppc64le/power8",
            Some(1),
        ),
        ("linux/s390x", "linux/amd64 linux/s390x", Some(1)),
        (
            "linux/mips64le/softfloat",
            "linux/mips64le/hardfloat linux/mips64le",
            Some(1),
        ),
    ]);
}

#[test]
fn last_resorts() {
    check([
        // Entries that are no images.
        ("linux/amd64", "unknown/unknown linux/amd64", Some(1)),
        ("linux/amd64", "unknown/unknown", None),
        ("unknown/unknown", "unknown/unknown", None),
        // An entry without a platform is the last resort, the first one of several.
        ("linux/amd64", "- linux/amd64", Some(1)),
        ("linux/amd64", "- linux/386", Some(1)),
        ("linux/amd64", "linux/arm64 - -", Some(1)),
    ]);
}

#[test]
fn versions_of_the_system() {
    check([
        (
            "windows(10.0.17763.5)/amd64",
            "windows(10.0.14393.1)/amd64 windows(10.0.17763.1)/amd64",
            Some(1),
        ),
        (
            "windows(10.0.17763.5)/amd64",
            "windows(10.0.17763.1)/amd64 windows(10.0.17763.5)/amd64",
            Some(1),
        ),
        ("windows(10.0.17763.5)/amd64", "windows(10.0.14393.1)/amd64", None),
        (
            "windows(10.0.17763.5)/amd64",
            "windows/amd64 windows(10.0.17763.1)/amd64",
            Some(1),
        ),
        ("windows(10.0.17763.5)/amd64", "windows/amd64", Some(0)),
        (
            "windows/amd64",
            "windows(10.0.14393.1)/amd64 windows(10.0.17763.1)/amd64",
            Some(0),
        ),
        ("linux(6.1)/amd64", "linux(6.2)/amd64 linux(6.1)/amd64", Some(1)),
        ("linux(6.1)/amd64", "linux(6.1.1)/amd64", None),
    ]);
}

#[test]
fn entries_that_describe_others_are_never_taken() {
    let mut attestation = entry(0, "linux/amd64");
    attestation.annotations = BTreeMap::from([("vnd.docker.reference.type".into(), "attestation-manifest".into())]);
    let mut bare = entry(1, "-");
    bare.annotations = attestation.annotations.clone();
    let mut artifact = entry(2, "-");
    artifact.artifact_type = Some("application/vnd.example.sbom".into());
    let mut blob = entry(3, "linux/amd64");
    blob.media_type = MediaType::OCI_LAYER;
    let strangers = [attestation, bare, artifact, blob];
    assert_eq!(matcher("linux/amd64").select(&strangers), None);
    assert_eq!(platforms_offered(&strangers), []);

    let mut image = entry(4, "linux/amd64");
    image.artifact_type = Some(MediaType::OCI_CONFIG.to_string());
    assert_eq!(
        matcher("linux/amd64").select(std::slice::from_ref(&image)),
        Some(&image)
    );
}

#[test]
fn features_are_needed_or_not() {
    let mut special = entry(0, "linux/amd64");
    special.platform.as_mut().unwrap().os_features = vec!["erofs".into()];
    let index = [special, entry(1, "linux/amd64")];
    let mut wanted: Platform = "linux/amd64".parse().unwrap();
    assert_eq!(PlatformMatcher::new(&wanted).select(&index).unwrap().size, 1);
    wanted.os_features = vec!["erofs".into()];
    assert_eq!(PlatformMatcher::new(&wanted).select(&index).unwrap().size, 0);
}

#[test]
fn a_nested_index_is_an_entry_like_others() {
    let mut nested = entry(0, "-");
    nested.media_type = MediaType::OCI_INDEX;
    assert_eq!(
        matcher("linux/amd64").select(std::slice::from_ref(&nested)),
        Some(&nested)
    );
}

#[test]
fn all_that_suit_best_first() {
    let entries = entries("linux/386 - linux/s390x linux/amd64 linux/amd64/v2");
    let order: Vec<_> = matcher("linux/amd64/v2")
        .ranked(&entries)
        .iter()
        .map(|entry| entry.size)
        .collect();
    assert_eq!(order, [4, 3, 0, 1]);
}

#[test]
fn what_there_is() {
    let entries =
        entries("linux/amd64 linux/x86_64 unknown/unknown - linux/arm64/v8 linux/arm windows(10.0.1.2)/amd64");
    let offered: Vec<_> = platforms_offered(&entries).iter().map(Platform::to_string).collect();
    assert_eq!(
        offered,
        ["linux/amd64", "linux/arm64", "linux/arm/v7", "windows(10.0.1.2)/amd64"]
    );
}

/// Wanted, the platform that a configuration names, and whether its image suits.
#[test]
fn a_single_manifest_by_its_configuration() {
    for (wanted, os, architecture, variant, expected) in [
        ("linux/amd64", "linux", "amd64", "", true),
        ("linux/amd64/v3", "linux", "x86_64", "", true),
        ("linux/amd64/v3", "linux", "amd64", "v4", false),
        ("linux/amd64", "linux", "386", "", true),
        ("linux/amd64", "linux", "arm64", "", false),
        ("linux/amd64", "windows", "amd64", "", false),
        ("linux/arm64", "linux", "arm64", "v8", true),
        ("linux/arm64", "linux", "arm", "v7", true),
        ("linux/arm/v6", "linux", "arm", "v7", false),
        ("linux/arm/v6", "linux", "arm", "v6", true),
        // What is not said is taken to suit.
        ("linux/arm/v6", "linux", "arm", "", true),
        ("linux/amd64", "", "", "", true),
        ("linux/amd64", "", "arm64", "", false),
        ("linux/amd64", "windows", "", "", false),
    ] {
        let config = Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: Some(variant.to_owned()).filter(|variant| !variant.is_empty()),
            ..Platform::default()
        };
        assert_eq!(
            matcher(wanted).accepts_config(&config),
            expected,
            "{wanted} of {config}"
        );
    }
}

#[test]
fn the_host_takes_its_own() {
    let host = Platform::host();
    let plain = Platform {
        variant: None,
        ..host.clone()
    };
    let index = [plain, host.clone()].map(|platform| Descriptor {
        platform: Some(platform),
        ..Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(""), 1)
    });
    let chosen = PlatformMatcher::new(&host).select(&index).unwrap();
    assert_eq!(chosen.platform.as_ref().map(Platform::normalized), Some(host));
}
