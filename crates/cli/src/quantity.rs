//! Sizes, durations and moments, as people write and read them.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::de::{self, Deserialize, Deserializer, Visitor};

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Returns a number of bytes in three or four digits with a binary unit.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = (count.ilog2() / 10) as usize - 1;
    // Tenths of the unit, rounded; the product fits since the dividend is below 2^70.
    let tenths = |unit: usize| (u128::from(count) * 10 + (512 << (10 * unit))) >> (10 * (unit + 1));
    if tenths(unit) >= 10_240 && unit + 1 < UNITS.len() {
        unit += 1;
    }
    let tenths = tenths(unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Returns a time to wait or waited, in its two largest units.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 if time.subsec_millis() > 0 => format!("{:.1}s", time.as_secs_f64()),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Returns how long ago `moment` was, seen from `now`.
pub(crate) fn ago(moment: SystemTime, now: SystemTime) -> String {
    let Ok(passed) = now.duration_since(moment) else {
        return "just now".to_owned();
    };
    let plural = |count: u64, unit: &str| format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" });
    match passed.as_secs() {
        0..10 => "just now".to_owned(),
        seconds @ 10..60 => plural(seconds, "second"),
        seconds @ 60..3600 => plural(seconds / 60, "minute"),
        seconds @ 3600..86_400 => plural(seconds / 3600, "hour"),
        seconds @ 86_400..604_800 => plural(seconds / 86_400, "day"),
        seconds @ 604_800..5_184_000 => plural(seconds / 604_800, "week"),
        seconds @ 5_184_000..63_072_000 => plural(seconds / 2_592_000, "month"),
        seconds => plural(seconds / 31_536_000, "year"),
    }
}

/// Returns a moment in the form of RFC 3339, in UTC and to the second.
pub(crate) fn rfc3339(moment: SystemTime) -> Option<String> {
    let moment = jiff::Timestamp::try_from(moment).ok()?;
    Some(format!("{moment:.0}"))
}

/// A number of bytes as a setting: `1048576`, `1024k`, `1 MiB`, `1MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

/// Why a text is no [`ByteSize`].
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a number of bytes; it is written like 1048576, 512M, 10GiB or 10GB")]
pub(crate) struct ByteSizeError {
    text: String,
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => Some(1),
            "k" | "kib" => Some(1 << 10),
            "m" | "mib" => Some(1 << 20),
            "g" | "gib" => Some(1 << 30),
            "t" | "tib" => Some(1_u64 << 40),
            "kb" => Some(1_000),
            "mb" => Some(1_000_000),
            "gb" => Some(1_000_000_000),
            "tb" => Some(1_000_000_000_000),
            _ => None,
        };
        let count = digits.parse::<u64>().ok();
        let size = factor.zip(count).and_then(|(factor, count)| count.checked_mul(factor));
        size.map(Self).ok_or_else(|| ByteSizeError { text: text.to_owned() })
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a text such as \"10GiB\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<ByteSize, E> {
                u64::try_from(number)
                    .map(ByteSize)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

/// A length of time as an option: `30d`, `12h`, `90m`, `30s`, `2w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age(pub(crate) Duration);

/// Why a text is no [`Age`].
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a length of time; it is written like 30d, 12h, 90m, 30s or 2w")]
pub(crate) struct AgeError {
    text: String,
}

impl FromStr for Age {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor = match unit {
            "s" => Some(1),
            "m" => Some(60),
            "h" => Some(60 * 60),
            "d" => Some(24 * 60 * 60),
            "w" => Some(7 * 24 * 60 * 60),
            _ => None,
        };
        let count = digits.parse::<u64>().ok();
        let seconds = factor.zip(count).and_then(|(factor, count)| count.checked_mul(factor));
        seconds
            .map(|seconds| Self(Duration::from_secs(seconds)))
            .ok_or_else(|| AgeError { text: text.to_owned() })
    }
}

/// A time as a setting: `30`, `30s`, `500ms`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// Why a text is no [`Time`].
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a time; it is written like 30, 30s, 500ms, 2m or 1h, and is not 0")]
pub(crate) struct TimeError {
    text: String,
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let millis = match unit.trim() {
            "ms" => Some(1),
            "" | "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000_u64),
            _ => None,
        };
        let count = digits.parse::<u64>().ok().filter(|count| *count > 0);
        let time = millis.zip(count).and_then(|(millis, count)| millis.checked_mul(count));
        time.map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| TimeError { text: text.to_owned() })
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds, or a text such as \"500ms\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Time, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit_that_fits() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (10 * 1024 * 1024, "10.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }

    #[test]
    fn durations() {
        for (milliseconds, expected) in [
            (0, "0s"),
            (1500, "1.5s"),
            (59_999, "59s"),
            (65_000, "1m05s"),
            (3_700_000, "1h01m"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn moments() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (seconds, expected) in [
            (1, "just now"),
            (60, "1 minute ago"),
            (7300, "2 hours ago"),
            (86_400 * 8, "1 week ago"),
            (70_000_000, "2 years ago"),
        ] {
            assert_eq!(ago(now - Duration::from_secs(seconds), now), expected);
        }
        assert_eq!(ago(now + Duration::from_mins(1), now), "just now");
        assert_eq!(rfc3339(now).unwrap(), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn ages_as_they_are_written() {
        for (text, expected) in [
            ("0s", 0),
            ("90m", 5400),
            ("12h", 43_200),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
        ] {
            assert_eq!(text.parse::<Age>().unwrap().0, Duration::from_secs(expected), "{text}");
        }
        for text in ["", "d", "3", "1.5d", "-1d", "1y", "99999999999999999w"] {
            assert!(text.parse::<Age>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_as_they_are_written() {
        for (text, millis) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("500ms", 500),
            ("2 m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(text.parse::<Time>().unwrap().0.as_millis(), millis, "{text}");
        }
        for text in ["", "s", "1.5s", "-1", "0", "1d", "99999999999999999h"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_as_they_are_written() {
        for (text, expected) in [
            ("0", 0),
            ("512M", 512 << 20),
            ("10 GiB", 10 << 30),
            ("1kb", 1000),
            ("7b", 7),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, expected, "{text}");
        }
        for text in ["", "G", "1.5G", "-1", "1X", "99999999999T"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
