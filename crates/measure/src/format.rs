//! Numbers as people read them.

use crate::Interval;

/// A whole number with thousands divided: `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with fixed decimals, without a minus in front of zero; `–` when it is not finite.
pub fn decimals(number: f64, places: usize) -> String {
    if !number.is_finite() {
        return "–".to_string();
    }
    let text = format!("{number:.places$}");
    if text.starts_with('-') && !text.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
        text[1..].to_string()
    } else {
        text
    }
}

/// A share in per cent with one decimal: `62.5 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", decimals(share * 100.0, 1))
}

/// A difference of shares in points with its sign and one decimal: `+3.2`.
pub fn points(difference: f64) -> String {
    let text = decimals(difference * 100.0, 1);
    if text.starts_with('-') || text == "0.0" || text == "–" { text } else { format!("+{text}") }
}

/// The interval of a share in per cent: `62.5 % (59.4 to 65.4)`.
pub fn percent_interval(interval: &Interval) -> String {
    format!(
        "{} ({} to {})",
        percent(interval.value),
        decimals(interval.low * 100.0, 1),
        decimals(interval.high * 100.0, 1)
    )
}

/// Seconds in a fitting unit: `42 ms`, `3.1 s`, `2 min 5 s`, `1 h 12 min`.
pub fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "–".to_string();
    }
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    }
}

/// A number of tokens in short: `950`, `12.3 thousand`, `1.2 million`.
pub fn tokens(count: u64) -> String {
    let number = count as f64;
    if count < 10_000 {
        thousands(count)
    } else if number < 999_950.0 {
        format!("{:.1} thousand", number / 1e3)
    } else if number < 999_950_000.0 {
        format!("{:.1} million", number / 1e6)
    } else {
        format!("{:.1} billion", number / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(123_456), "123,456");
        assert_eq!(decimals(-0.04, 1), "0.0");
        assert_eq!(decimals(-0.06, 1), "-0.1");
        assert_eq!(decimals(f64::NAN, 1), "–");
        assert_eq!(percent(0.625), "62.5 %");
        assert_eq!(points(0.032), "+3.2");
        assert_eq!(points(-0.032), "-3.2");
        assert_eq!(points(0.0), "0.0");
        assert_eq!(seconds(0.042), "42 ms");
        assert_eq!(seconds(0.9999), "1.0 s");
        assert_eq!(seconds(59.96), "1 min 0 s");
        assert_eq!(seconds(4320.0), "1 h 12 min");
        assert_eq!(tokens(950), "950");
        assert_eq!(tokens(12_345), "12.3 thousand");
        assert_eq!(tokens(999_999), "1.0 million");
        let i = Interval { value: 0.5, low: 0.4, high: 0.6 };
        assert_eq!(percent_interval(&i), "50.0 % (40.0 to 60.0)");
    }
}
