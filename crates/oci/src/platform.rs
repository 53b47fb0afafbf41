//! Platforms: what an image runs on, in one spelling.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::lenient;

/// The variants of an architecture that build on each other, best first, the last being what the architecture means
/// without a variant.
///
/// amd64: the levels of the x86-64 psABI. riscv64 and ppc64le: the image-spec's table (`image-index.md`, *Platform
/// Variants*), whose lowest rows are Go's baselines.
pub(crate) const LADDERS: &[(&str, &[&str])] = &[
    ("amd64", &["v4", "v3", "v2", "v1"]),
    ("riscv64", &["rva23u64", "rva22u64", "rva20u64"]),
    ("ppc64le", &["power10", "power9", "power8"]),
];

/// What an image runs on (image-spec, `image-index.md`, *platform*).
///
/// As a text it is `os/architecture[/variant]`, with the version of the operating system in parentheses after its name
/// where there is one (`windows(10.0.17763.1)/amd64`). Reading a text normalises it, so `linux/x86_64` and
/// `linux/amd64/v1` are both `linux/amd64`. Deserialising a document does not, to keep what it says;
/// [`normalized`](Self::normalized) does then.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// The operating system, by Go's name for it.
    #[serde(deserialize_with = "lenient::null_is_default")]
    pub os: String,
    /// The CPU architecture, by Go's name for it.
    #[serde(deserialize_with = "lenient::null_is_default")]
    pub architecture: String,
    /// The variant of the architecture.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of the operating system.
    #[serde(
        rename = "os.version",
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Features of the operating system that are needed. The text form leaves them out.
    #[serde(
        rename = "os.features",
        deserialize_with = "lenient::null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
}

impl Platform {
    /// Returns the platform of this machine, with the level of an amd64 CPU as its variant.
    pub fn host() -> Self {
        let platform = Self {
            os: std::env::consts::OS.to_owned(),
            architecture: match std::env::consts::ARCH {
                "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
                "mips64" if cfg!(target_endian = "little") => "mips64le",
                "mips" if cfg!(target_endian = "little") => "mipsle",
                other => other,
            }
            .to_owned(),
            variant: host_variant().map(str::to_owned),
            os_version: None,
            os_features: Vec::new(),
        };
        platform.normalized()
    }

    /// Returns the platform in the spelling that docker and containerd use.
    ///
    /// Names are lower-cased, other names of an architecture are replaced (`x86_64`, `aarch64`, `armhf`), a variant
    /// that an architecture has anyway is dropped (`amd64/v1`, `arm64/v8`), and `arm` without one is `arm/v7`.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = self.variant.as_deref().unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) = normalize_architecture(&self.architecture.to_ascii_lowercase(), &variant);
        Self {
            os,
            architecture,
            variant,
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    /// Returns whether the platform says neither what system nor what CPU it is about.
    pub fn is_empty(&self) -> bool {
        self.os.is_empty() && self.architecture.is_empty()
    }

    /// Returns whether this is the `unknown/unknown` of entries that are no images.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

/// Returns Go's name of an architecture, and the variant unless the architecture means it anyway.
fn normalize_architecture(architecture: &str, variant: &str) -> (String, Option<String>) {
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", _) => ("amd64", variant),
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", variant),
        ("aarch64" | "arm64", _) => ("arm64", variant),
        // Debian's names say the variant themselves, as in containerd.
        ("armhf", _) | ("arm", "") => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        // Names of kernels, distributions and Rust for what Go calls otherwise.
        ("ppc64el" | "powerpc64le", _) => ("ppc64le", variant),
        ("powerpc64", _) => ("ppc64", variant),
        ("mips64el", _) => ("mips64le", variant),
        ("mipsel", _) => ("mipsle", variant),
        ("loongarch64", _) => ("loong64", variant),
        other => other,
    };
    let bare_number = variant.starts_with(|c: char| c.is_ascii_digit());
    let mut variant = match architecture {
        "amd64" | "arm" | "arm64" if bare_number => format!("v{variant}"),
        _ => variant.to_owned(),
    };
    if architecture == "arm64" && variant.ends_with(".0") {
        variant.truncate(variant.len() - 2);
    }
    let is_baseline = architecture == "arm64" && variant == "v8"
        || LADDERS
            .iter()
            .any(|(name, ladder)| *name == architecture && ladder.last() == Some(&variant.as_str()));
    (
        architecture.to_owned(),
        Some(variant).filter(|variant| !variant.is_empty() && !is_baseline),
    )
}

/// Returns the highest x86-64 level whose features the CPU has and the operating system has switched on.
#[cfg(target_arch = "x86_64")]
fn host_variant() -> Option<&'static str> {
    // The features are those of the x86-64 psABI; LAHF-SAHF and OSXSAVE cannot be asked for, and every CPU with the
    // others has them.
    let v2 = is_x86_feature_detected!("cmpxchg16b")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("sse3")
        && is_x86_feature_detected!("sse4.1")
        && is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("ssse3");
    let v3 = is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("movbe");
    let v4 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (v2, v3, v4) {
        (true, true, true) => Some("v4"),
        (true, true, false) => Some("v3"),
        (true, false, _) => Some("v2"),
        (false, ..) => None,
    }
}

/// Returns nothing: on other CPUs the architecture's plain meaning is what is known to run.
#[cfg(not(target_arch = "x86_64"))]
const fn host_variant() -> Option<&'static str> {
    None
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The parts may come from a hostile document and end on a terminal.
        write!(f, "{}", or_unknown(&self.os).escape_debug())?;
        if let Some(version) = &self.os_version {
            write!(f, "({})", version.escape_debug())?;
        }
        write!(f, "/{}", or_unknown(&self.architecture).escape_debug())?;
        if let Some(variant) = &self.variant {
            write!(f, "/{}", variant.escape_debug())?;
        }
        Ok(())
    }
}

fn or_unknown(name: &str) -> &str {
    if name.is_empty() { "unknown" } else { name }
}

/// Why a text is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// There are fewer than two or more than three parts.
    #[error("invalid platform {text:?}: it has the form os/architecture or os/architecture/variant, as in linux/arm64")]
    Form {
        /// The text.
        text: String,
    },
    /// A part is empty or has a character that no platform has.
    #[error("invalid platform {text:?}: {part:?} may hold letters, digits, '_', '.' and '-', and at least one of them")]
    Part {
        /// The text.
        text: String,
        /// The part.
        part: String,
    },
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture[/variant]` and normalises it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (os, architecture, variant) = match text.split('/').collect::<Vec<_>>()[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(PlatformError::Form { text: text.to_owned() }),
        };
        let (os, version) = match os.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
            Some((os, version)) => (os, Some(version)),
            None => (os, None),
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        for part in [Some(os), version, Some(architecture), variant].into_iter().flatten() {
            if part.is_empty() || !part.chars().all(is_word) {
                return Err(PlatformError::Part {
                    text: text.to_owned(),
                    part: part.to_owned(),
                });
            }
        }
        let platform = Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            os_version: version.map(str::to_owned),
            os_features: Vec::new(),
        };
        Ok(platform.normalized())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_spelling() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/x86-64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/x86_64/V3", "linux/amd64/v3"),
            ("linux/amd64/3", "linux/amd64/v3"),
            ("linux/i686", "linux/386"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v8.0", "linux/arm64"),
            ("linux/arm64/v8.2", "linux/arm64/v8.2"),
            ("linux/arm64/v9.0", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/arm/v8", "linux/arm/v8"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armhf/v6", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/riscv64/rva20u64", "linux/riscv64"),
            ("linux/riscv64/rva23u64", "linux/riscv64/rva23u64"),
            ("linux/ppc64el/power8", "linux/ppc64le"),
            ("linux/loongarch64", "linux/loong64"),
            ("macos/arm64", "darwin/arm64"),
            ("windows(10.0.17763.1)/amd64", "windows(10.0.17763.1)/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in ["", "linux", "amd64", "linux/amd64/v1/x"] {
            assert_eq!(text.parse::<Platform>(), Err(PlatformError::Form { text: text.into() }));
        }
        for (text, part) in [
            ("/amd64", ""),
            ("linux/", ""),
            ("linux/amd64/", ""),
            ("linux /amd64", "linux "),
            ("linux/amd\u{7}", "amd\u{7}"),
            ("windows()/amd64", ""),
            ("windows(1/amd64", "windows(1"),
        ] {
            let expected = PlatformError::Part {
                text: text.into(),
                part: part.into(),
            };
            assert_eq!(text.parse::<Platform>(), Err(expected));
        }
    }

    #[test]
    fn host_is_normal_and_complete() {
        let host = Platform::host();
        assert_eq!(host, host.normalized());
        assert!(!host.is_empty() && !host.is_unknown());
        #[cfg(target_arch = "x86_64")]
        assert_eq!(host.architecture, "amd64");
    }

    #[test]
    fn a_hostile_platform_cannot_drive_a_terminal() {
        let platform = Platform {
            os: "\u{1b}[2J".into(),
            ..Platform::default()
        };
        assert_eq!(platform.to_string(), "\\u{1b}[2J/unknown");
    }

    #[test]
    fn document_form() {
        let text = r#"{"architecture":"arm64","os":"linux","variant":"v8","os.features":null,"features":["sse4"]}"#;
        let platform: Platform = serde_json::from_str(text).unwrap();
        assert_eq!(platform.variant.as_deref(), Some("v8"));
        let written = serde_json::to_value(&platform).unwrap();
        assert_eq!(
            written,
            serde_json::json!({"architecture": "arm64", "os": "linux", "variant": "v8"})
        );
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(os in "[a-zA-Z]{1,8}", architecture in "(amd64|x86_64|arm|arm64|armhf|riscv64|[a-z0-9_]{1,8})", variant in proptest::option::of("v?[0-9](\\.0)?|[a-z0-9.]{0,5}")) {
            let platform = Platform { os, architecture, variant, ..Platform::default() };
            let once = platform.normalized();
            prop_assert_eq!(once.normalized(), once);
        }

        #[test]
        fn parse_and_display_are_inverse(text in "[a-z]{1,8}(\\([0-9.]{1,9}\\))?/[a-zA-Z0-9_-]{1,8}(/[a-z0-9.]{1,5})?") {
            let platform: Platform = text.parse().unwrap();
            prop_assert_eq!(platform.to_string().parse::<Platform>().unwrap(), platform);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            if let Ok(platform) = text.parse::<Platform>() {
                prop_assert_eq!(platform.to_string().parse::<Platform>().unwrap(), platform);
            }
        }
    }
}
