//! Which entry of an index to take on a platform.

use crate::platform::LADDERS;
use crate::{Descriptor, Platform};

/// Chooses the entry of an index that suits a platform best.
///
/// # The order
///
/// 1. The architecture and variant wanted, then the variants it can run, best first: amd64 v4 → v3 → v2 → plain,
///    arm v8 → v7 → v6 → v5, arm64 v9.1 → v9 → v8.6 … → plain, riscv64 and ppc64le by profile.
/// 2. The architectures that its CPUs run, too: amd64 → 386, arm64 → arm v8 … v5.
/// 3. An entry that names no platform.
///
/// Within one of these, an entry with the operating system's very version goes before one with another fitting
/// version and that before one without; among equals the first entry wins. An entry for another operating system, or
/// one that needs a feature of it that was not offered, never suits.
///
/// A wanted platform without a variant means the plain architecture: what runs everywhere. [`Platform::host`] names
/// the level of the CPU, so that a better image is taken where the machine can run it.
#[derive(Clone, Debug)]
pub struct PlatformMatcher {
    wanted: Platform,
    /// Architecture and variant, best first.
    candidates: Vec<(String, Option<String>)>,
}

impl PlatformMatcher {
    /// Makes a matcher for what `wanted` can run.
    pub fn new(wanted: &Platform) -> Self {
        let wanted = wanted.normalized();
        let candidates = candidates(&wanted.architecture, wanted.variant.as_deref());
        Self { wanted, candidates }
    }

    /// Returns the platform wanted, normalised.
    pub const fn wanted(&self) -> &Platform {
        &self.wanted
    }

    /// Returns how well `offered` suits, 0 being best, or [`None`] if it does not.
    pub fn rank(&self, offered: &Platform) -> Option<u32> {
        let offered = offered.normalized();
        if offered.os != self.wanted.os || !self.has_features(&offered) {
            return None;
        }
        let version = self.rank_version(offered.os_version.as_deref())?;
        let architecture = self.candidates.iter().position(|(architecture, variant)| {
            *architecture == offered.architecture && variant.as_deref() == offered.variant.as_deref()
        })?;
        Some(u32::try_from(architecture).ok()? * 3 + version)
    }

    /// Returns the entry to take, or [`None`] if none suits.
    pub fn select<'index>(&self, entries: &'index [Descriptor]) -> Option<&'index Descriptor> {
        self.ranked(entries).into_iter().next()
    }

    /// Returns all entries that suit, best first.
    ///
    /// Entries that describe other entries (attestations, signatures) and entries that are no manifests are left out.
    pub fn ranked<'index>(&self, entries: &'index [Descriptor]) -> Vec<&'index Descriptor> {
        let mut ranked: Vec<_> = entries
            .iter()
            .filter(|entry| is_image(entry))
            .filter_map(|entry| {
                let rank = match &entry.platform {
                    Some(platform) => self.rank(platform)?,
                    None => u32::MAX,
                };
                Some((rank, entry))
            })
            .collect();
        // The sort is stable, so the first of equals stays first.
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Returns whether an image that was found without an index suits, by the platform its configuration names.
    ///
    /// Configurations say less than indexes: what one leaves out (often the variant, in old ones everything) is taken
    /// to suit. Versions and features of the operating system are not compared.
    pub fn accepts_config(&self, config: &Platform) -> bool {
        let config = config.normalized_config();
        if !config.os.is_empty() && config.os != self.wanted.os {
            return false;
        }
        let suits = |(architecture, variant): &(String, Option<String>)| {
            *architecture == config.architecture && (config.variant.is_none() || *variant == config.variant)
        };
        config.architecture.is_empty() || self.candidates.iter().any(suits)
    }

    fn has_features(&self, offered: &Platform) -> bool {
        offered
            .os_features
            .iter()
            .all(|feature| self.wanted.os_features.contains(feature))
    }

    fn rank_version(&self, offered: Option<&str>) -> Option<u32> {
        match (self.wanted.os_version.as_deref(), offered) {
            (None, _) => Some(0),
            (Some(wanted), Some(offered)) if wanted == offered => Some(0),
            // Windows runs images of its own build (the third number), whatever their revision.
            (Some(wanted), Some(offered)) => {
                let is_same_build = wanted.split('.').take(3).eq(offered.split('.').take(3));
                (self.wanted.os == "windows" && is_same_build).then_some(1)
            }
            (Some(_), None) => Some(2),
        }
    }
}

impl Platform {
    /// Normalises what a configuration says, without guessing the variant of an `arm` that names none: images for
    /// armv6 were long built with configurations that say no more than `arm`.
    fn normalized_config(&self) -> Self {
        let mut normalized = self.normalized();
        if self.variant.is_none() && self.architecture.eq_ignore_ascii_case("arm") {
            normalized.variant = None;
        }
        normalized
    }
}

/// Returns the platforms that an index offers images for, in the order of its entries, each once, normalised.
///
/// This is for telling what there is when nothing suits.
pub fn platforms_offered(entries: &[Descriptor]) -> Vec<Platform> {
    let mut offered = Vec::new();
    for entry in entries.iter().filter(|entry| is_image(entry)) {
        if let Some(platform) = entry.platform.as_ref().map(Platform::normalized)
            && !offered.contains(&platform)
        {
            offered.push(platform);
        }
    }
    offered
}

/// Returns whether an entry may be an image, or an index of images.
fn is_image(entry: &Descriptor) -> bool {
    let is_document = entry.media_type.is_empty() || entry.media_type.is_manifest() || entry.media_type.is_index();
    // The specification lets an entry repeat its configuration's type as the artifact type.
    let is_artifact = entry
        .artifact_type
        .as_deref()
        .is_some_and(|name| !crate::MediaType::new(name).is_config());
    is_document && !is_artifact && !entry.is_attestation()
}

/// Returns what a CPU runs, best first. Architecture and variant are normalised.
fn candidates(architecture: &str, variant: Option<&str>) -> Vec<(String, Option<String>)> {
    let of = |architecture: &str, variants: &[Option<&str>]| -> Vec<_> {
        variants
            .iter()
            .map(|variant| (architecture.to_owned(), variant.map(str::to_owned)))
            .collect()
    };
    match architecture {
        "arm" => of("arm", &arm_variants(variant)),
        "arm64" => {
            let variants = arm64_variants(variant);
            let variants: Vec<_> = variants.iter().map(Option::as_deref).collect();
            [of("arm64", &variants), of("arm", &arm_variants(Some("v8")))].concat()
        }
        _ => {
            let mut candidates = of(architecture, &ladder_variants(architecture, variant));
            if architecture == "amd64" {
                candidates.push(("386".to_owned(), None));
            }
            candidates
        }
    }
}

fn arm_variants(variant: Option<&str>) -> Vec<Option<&str>> {
    const VARIANTS: [&str; 4] = ["v8", "v7", "v6", "v5"];
    match VARIANTS.iter().position(|name| Some(*name) == variant) {
        Some(first) => VARIANTS[first..].iter().copied().map(Some).collect(),
        None => vec![variant],
    }
}

/// arm64 variants are versions of the architecture: v9.N contains v8.(N+5) (Arm's own statement, and what Go's
/// toolchain assumes), and every one contains plain v8.
fn arm64_variants(variant: Option<&str>) -> Vec<Option<String>> {
    let Some(name) = variant else { return vec![None] };
    let number = name.strip_prefix('v').unwrap_or(name);
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    let spelled = |major: u8, minor: u8| match (major, minor) {
        (8, 0) => None,
        (major, 0) => Some(format!("v{major}")),
        (major, minor) => Some(format!("v{major}.{minor}")),
    };
    let down = |major: u8, minor: u8| (0..=minor).rev().map(move |minor| spelled(major, minor));
    match (major, minor.parse::<u8>()) {
        ("9", Ok(minor)) => down(9, minor).chain(down(8, minor.saturating_add(5))).collect(),
        ("8", Ok(minor)) => down(8, minor).collect(),
        _ => vec![Some(name.to_owned()), None],
    }
}

/// An architecture without a ladder, or a variant that is not on it, is matched by its own name, then plain.
fn ladder_variants<'name>(architecture: &str, variant: Option<&'name str>) -> Vec<Option<&'name str>> {
    let Some(variant) = variant else { return vec![None] };
    let ladder = LADDERS
        .iter()
        .find(|(name, _)| *name == architecture)
        .map_or(&[][..], |(_, ladder)| *ladder);
    match ladder.iter().position(|step| *step == variant) {
        // The last step is what no variant means.
        Some(first) => ladder[first..ladder.len() - 1]
            .iter()
            .copied()
            .map(Some)
            .chain([None])
            .collect(),
        None => vec![Some(variant), None],
    }
}
