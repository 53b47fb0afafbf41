//! Moments and choices at random that can be had again, and how many of them.

use std::time::{Duration, SystemTime};

/// Numbers at random (Marsaglia's xorshift), the same for the same seed.
#[derive(Debug)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// Begins with the seed in `UNLADE_TEST_SEED`, or somewhere else every time. Prints which: it is seen when the test fails.
    pub fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let seed = setting("UNLADE_TEST_SEED", u64::from(now.subsec_nanos()) | 1);
        #[expect(clippy::print_stdout, reason = "a test's own output")]
        {
            println!("UNLADE_TEST_SEED={seed}");
        }
        Self::from_seed(seed)
    }

    /// Begins with this seed, for instance one that another has drawn.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Self {
            seed,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        };
        // The first numbers of neighbouring seeds are much alike.
        for _ in 0..16 {
            random.number();
        }
        random
    }

    /// Returns what it began with.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns any number.
    pub fn number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound as u64).unwrap_or_default()
    }

    /// Returns a number from 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.number() >> 32).unwrap_or_default()) / f64::from(u32::MAX)
    }

    /// Returns `count` moments in order, spread over `whole`: one at random within each of as many equal parts.
    pub fn moments(&mut self, count: u32, whole: Duration) -> Vec<Duration> {
        (0..count)
            .map(|at| (whole / count).mul_f64(f64::from(at) + self.fraction()))
            .collect()
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a number from the environment, by which people make a test longer than it is for everyone.
pub fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "whoever runs the tests by hand sets it")]
    let value = std::env::var(name).ok();
    value.map_or(default, |value| {
        value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}"))
    })
}

/// As [`setting`], for a count.
pub fn count(name: &str, default: u32) -> u32 {
    u32::try_from(setting(name, u64::from(default))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_moments_again_and_they_are_spread() {
        let whole = Duration::from_secs(10);
        let moments = Random::from_seed(7).moments(10, whole);
        assert_eq!(moments, Random::from_seed(7).moments(10, whole));
        assert_ne!(moments, Random::from_seed(8).moments(10, whole));
        for (at, moment) in (0..).zip(&moments) {
            let part = Duration::from_secs(at)..=Duration::from_secs(at + 1);
            assert!(part.contains(moment), "{moments:?}");
        }
    }
}
