//! Parses sizes, durations and CPU quantities.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::plan::Error;

/// Bytes of a MiB.
pub const MIB: i64 = 1 << 20;

/// A size in bytes: a whole number with one of Kubernetes' suffixes.
pub fn size(field: &str, text: &str) -> Result<i64, Error> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let unit: i64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(wrong(field, text, "a size such as 512Mi or 2Gi")),
    };
    thousandths(number)
        .and_then(|thousandths| thousandths.checked_mul(unit.into()))
        .filter(|value| value % 1000 == 0 && *value > 0)
        .and_then(|value| i64::try_from(value / 1000).ok())
        // No node has a PiB; a bound here keeps sums of sizes far from overflow.
        .filter(|bytes| *bytes < 1 << 50)
        .ok_or_else(|| wrong(field, text, "a size such as 512Mi or 2Gi"))
}

/// A duration that is a whole number of steps.
pub fn whole(field: &str, text: &str, step: Duration) -> Result<Duration, Error> {
    let duration =
        duration(text).ok_or_else(|| wrong(field, text, "a duration such as 90s or 1h30m"))?;
    if duration.as_millis().is_multiple_of(step.as_millis().max(1)) {
        Ok(duration)
    } else {
        Err(wrong(
            field,
            text,
            &format!("a whole number of {} s", step.as_secs()),
        ))
    }
}

/// CPU in thousandths of a core.
pub fn millicores(field: &str, value: &IntOrString) -> Result<i64, Error> {
    let found = match value {
        IntOrString::Int(cores) => Some(i64::from(*cores) * 1000),
        IntOrString::String(text) => match text.strip_suffix('m') {
            Some(milli) => milli.parse().ok(),
            None => thousandths(text).and_then(|value| i64::try_from(value).ok()),
        },
    };
    found
        .filter(|milli| (1..=1_000_000).contains(milli))
        .ok_or_else(|| Error {
            field: field.to_owned(),
            problem: "an amount of CPU such as 500m or 2".to_owned(),
        })
}

fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(&rest[digits..], |end| &rest[digits..digits + end]);
        let milliseconds = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(milliseconds)?)?;
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty()).then_some(Duration::from_millis(total))
}

/// `1.5` as 1500; nothing finer.
fn thousandths(number: &str) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 3 || (whole.is_empty() && fraction.is_empty()) || whole.len() > 18 {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction: i128 = format!("{fraction:0<3}").parse().ok()?;
    Some(whole * 1000 + fraction)
}

fn wrong(field: &str, text: &str, expected: &str) -> Error {
    Error {
        field: field.to_owned(),
        problem: format!("{text:?} is not {expected}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_reads_them() {
        for (text, bytes) in [
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("500M", 500_000_000),
            ("1024", 1024),
            ("0.5Ki", 512),
        ] {
            assert_eq!(size("f", text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "0",
            "Gi",
            "1e99Gi",
            "-1Gi",
            "1Xi",
            "1.0001",
            "9999999999999999999",
            "1.5",
            "100000Ti",
            "1 Gi",
            "½Gi",
        ] {
            assert!(size("f", text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        let minute = Duration::from_mins(1);
        assert_eq!(whole("f", "1h30m", minute), Ok(Duration::from_mins(90)));
        assert_eq!(whole("f", "0s", minute), Ok(Duration::ZERO));
        assert_eq!(
            whole("f", "1500ms", Duration::from_millis(1)),
            Ok(Duration::from_millis(1500))
        );
        for text in [
            "",
            "90",
            "h",
            "90s",
            "1d",
            "-1m",
            "1.5h",
            "99999999999999999999h",
        ] {
            assert!(whole("f", text, minute).is_err(), "{text}");
        }
    }

    #[test]
    fn cpu_is_a_number_or_thousandths() {
        for (value, milli) in [("500m", 500), ("2", 2000), ("0.25", 250)] {
            assert_eq!(
                millicores("f", &IntOrString::String(value.to_owned())),
                Ok(milli)
            );
        }
        assert_eq!(millicores("f", &IntOrString::Int(4)), Ok(4000));
        assert!(millicores("f", &IntOrString::Int(0)).is_err());
        assert!(millicores("f", &IntOrString::String("a lot".to_owned())).is_err());
    }
}
