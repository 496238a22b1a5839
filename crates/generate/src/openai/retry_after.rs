//! The `Retry-After` header: seconds or an HTTP date (RFC 9110, sections 10.2.3 and 5.6.7).

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use std::time::{SystemTime, UNIX_EPOCH};

/// How long the server asks us to wait, in seconds. A date is compared with the server's own `Date`, so that our clock
/// does not matter; without one, with our clock.
pub(crate) fn retry_after_seconds(headers: &HeaderMap) -> Option<f64> {
    let text = |name| headers.get(name).and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok());
    if let Some(milliseconds) = headers.get("retry-after-ms").and_then(|value| value.to_str().ok())
        && let Ok(milliseconds) = milliseconds.trim().parse::<f64>()
        && milliseconds.is_finite()
        && milliseconds >= 0.0
    {
        return Some(milliseconds / 1e3);
    }
    let value = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then_some(seconds);
    }
    let at = unix_seconds(value)?;
    let now = text(DATE)
        .and_then(unix_seconds)
        .or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs() as i64))?;
    Some((at - now).max(0) as f64)
}

/// Seconds since 1970 of an HTTP date in any of its three forms.
fn unix_seconds(text: &str) -> Option<i64> {
    // `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`
    let parts: Vec<&str> = text.split([' ', '-', ',']).filter(|part| !part.is_empty()).collect();
    let (day, month, year, time) = match parts[..] {
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let day: i64 = day.parse().ok().filter(|day| (1..=31).contains(day))?;
    let mut full_year: i64 = year.parse().ok().filter(|year| (0..=9999).contains(year))?;
    if year.len() == 2 {
        // RFC 9110 reads a two-digit year as the most recent one with these digits; servers that still write it mean
        // this century.
        full_year += 2000;
    }
    let clock: Vec<i64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = clock[..] else { return None };
    if !(0..24).contains(&hours) || !(0..60).contains(&minutes) || !(0..=60).contains(&seconds) {
        return None;
    }
    Some(days_from_civil(full_year, month, day) * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, counting years from March so that the leap day is last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_date_forms_name_the_same_second() {
        assert_eq!(unix_seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(unix_seconds("Sun Nov  6 08:49:37 1994"), Some(784_111_777));
        assert_eq!(unix_seconds("Thursday, 29-Feb-24 00:00:00 GMT"), Some(1_709_164_800));
        for bad in ["", "soon", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT"] {
            assert_eq!(unix_seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn seconds_milliseconds_and_dates_are_read() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.insert(*name, value.parse().unwrap());
            }
            map
        };
        assert_eq!(retry_after_seconds(&headers(&[("retry-after", "3")])), Some(3.0));
        assert_eq!(
            retry_after_seconds(&headers(&[("retry-after", "1.5"), ("retry-after-ms", "20")])),
            Some(0.02)
        );
        assert_eq!(retry_after_seconds(&headers(&[("retry-after", "-1")])), None);
        let dated = headers(&[
            ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ]);
        assert_eq!(retry_after_seconds(&dated), Some(3.0), "relative to the server's clock");
        let past = headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")]);
        assert_eq!(retry_after_seconds(&past), Some(0.0));
    }
}
