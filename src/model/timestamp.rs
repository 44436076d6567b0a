//! Moments: UTC, whole milliseconds.

use std::{fmt, time::Duration};

use jiff::{
    SignedDuration,
    civil::{Date, DateTime, Time},
};
use thiserror::Error;

/// A moment in UTC, truncated to milliseconds, of the years 0001 to 9999.
///
/// `Display` writes `2026-04-05T12:00:00.000Z`: always three decimals, always `Z`. It holds
/// milliseconds because `jiff::Timestamp` ends a day before the year 9999 does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text or number is not a moment that can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be an RFC 3339 timestamp")]
pub struct NotATimestamp;

/// 0001-01-01T00:00:00.000Z.
const MIN_MILLIS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z.
const MAX_MILLIS: i64 = 253_402_300_799_999;
/// 1970 began.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl Timestamp {
    /// The moment this many milliseconds after 1970.
    ///
    /// # Errors
    ///
    /// Outside the years 0001 to 9999.
    pub fn from_millisecond(millis: i64) -> Result<Self, NotATimestamp> {
        (MIN_MILLIS..=MAX_MILLIS)
            .contains(&millis)
            .then_some(Self(millis))
            .ok_or(NotATimestamp)
    }

    /// The seconds and nanoseconds of a `google.protobuf.Timestamp`, truncated to milliseconds.
    ///
    /// # Errors
    ///
    /// Outside the years 0001 to 9999, or with nanoseconds that are no fraction of a second.
    pub fn from_seconds_and_nanos(seconds: i64, nanos: i32) -> Result<Self, NotATimestamp> {
        if !(0..1_000_000_000).contains(&nanos) {
            return Err(NotATimestamp);
        }
        let millis = seconds.checked_mul(1000).ok_or(NotATimestamp)?;
        Self::from_millisecond(
            millis
                .checked_add(i64::from(nanos / 1_000_000))
                .ok_or(NotATimestamp)?,
        )
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn as_millisecond(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded towards the past.
    #[must_use]
    pub fn as_second(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The milliseconds of the second, 0 to 999.
    #[must_use]
    pub fn subsec_millis(self) -> i32 {
        i32::try_from(self.0.rem_euclid(1000)).expect("a remainder of 1000")
    }

    /// The moment this long after it.
    ///
    /// # Errors
    ///
    /// Beyond the year 9999.
    pub fn after(self, duration: Duration) -> Result<Self, NotATimestamp> {
        let millis = i64::try_from(duration.as_millis()).map_err(|_| NotATimestamp)?;
        Self::from_millisecond(self.0.checked_add(millis).ok_or(NotATimestamp)?)
    }

    /// The moment this long before it, but none before the year 0001.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis).max(MIN_MILLIS))
    }

    /// How long after `earlier` it is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 and the forms around it that callers send: a space may stand for `T`, letters
    /// may be lower case, without an offset it is UTC, a date alone is midnight UTC, a leap second
    /// is read as :59, fractions are truncated.
    ///
    /// # Errors
    ///
    /// Any other text, and moments outside the years 0001 to 9999 in UTC.
    pub fn parse(text: &str) -> Result<Self, NotATimestamp> {
        let mut rest = Cursor(text.as_bytes());
        let date = rest.date()?;
        if rest.0.is_empty() {
            return Self::from_civil(date.at(0, 0, 0, 0), 0);
        }
        rest.one_of(b"Tt ")?;
        let time = rest.time()?;
        let offset_minutes = rest.offset()?;
        if !rest.0.is_empty() {
            return Err(NotATimestamp);
        }
        Self::from_civil(DateTime::from_parts(date, time), offset_minutes)
    }

    fn from_civil(civil: DateTime, offset_minutes: i64) -> Result<Self, NotATimestamp> {
        let millis = civil.duration_since(EPOCH).as_millis();
        let millis = i64::try_from(millis).map_err(|_| NotATimestamp)?;
        Self::from_millisecond(millis - offset_minutes * 60_000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = EPOCH
            .checked_add(SignedDuration::from_millis(self.0))
            .expect("civil time holds the years 0001 to 9999");
        write!(f, "{moment:.3}Z")
    }
}

/// The text that is still to be read.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn one_of(&mut self, allowed: &[u8]) -> Result<u8, NotATimestamp> {
        let (first, rest) = self.0.split_first().ok_or(NotATimestamp)?;
        if !allowed.contains(first) {
            return Err(NotATimestamp);
        }
        self.0 = rest;
        Ok(*first)
    }

    fn number<const DIGITS: usize>(&mut self) -> Result<i16, NotATimestamp> {
        let mut value = 0;
        for _ in 0..DIGITS {
            value = value * 10 + i16::from(self.one_of(b"0123456789")? - b'0');
        }
        Ok(value)
    }

    fn pair(&mut self, max: i16) -> Result<i8, NotATimestamp> {
        let value = self.number::<2>()?;
        if value > max {
            return Err(NotATimestamp);
        }
        i8::try_from(value).map_err(|_| NotATimestamp)
    }

    fn date(&mut self) -> Result<Date, NotATimestamp> {
        let year = self.number::<4>()?;
        self.one_of(b"-")?;
        let month = self.pair(12)?;
        self.one_of(b"-")?;
        let day = self.pair(31)?;
        Date::new(year, month, day).map_err(|_| NotATimestamp)
    }

    fn time(&mut self) -> Result<Time, NotATimestamp> {
        let hour = self.pair(23)?;
        self.one_of(b":")?;
        let minute = self.pair(59)?;
        self.one_of(b":")?;
        let second = self.pair(60)?;
        let nanos = self.fraction()?;
        // A leap second is taken as the last second before it, whatever its fraction.
        Time::new(hour, minute, second.min(59), nanos).map_err(|_| NotATimestamp)
    }

    /// The fraction in nanoseconds; digits beyond the third do not matter.
    fn fraction(&mut self) -> Result<i32, NotATimestamp> {
        if self.one_of(b".").is_err() {
            return Ok(0);
        }
        let mut millis = i32::from(self.one_of(b"0123456789")? - b'0') * 100;
        let mut weight = 10;
        while let Ok(digit) = self.one_of(b"0123456789") {
            millis += i32::from(digit - b'0') * weight;
            weight /= 10;
        }
        Ok(millis * 1_000_000)
    }

    /// Minutes east of UTC.
    fn offset(&mut self) -> Result<i64, NotATimestamp> {
        if self.0.is_empty() || self.one_of(b"Zz").is_ok() {
            return Ok(0);
        }
        let sign = if self.one_of(b"+-")? == b'-' { -1 } else { 1 };
        let hours = self.pair(23)?;
        self.one_of(b":")?;
        let minutes = self.pair(59)?;
        Ok(sign * (i64::from(hours) * 60 + i64::from(minutes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        Timestamp::parse(text).map_or_else(|fault| fault.to_string(), |moment| moment.to_string())
    }

    #[test]
    fn the_forms_that_callers_send_are_read() {
        for (text, expected) in [
            ("2026-04-05T12:00:00Z", "2026-04-05T12:00:00.000Z"),
            ("2026-04-05t12:00:00z", "2026-04-05T12:00:00.000Z"),
            ("2026-04-05 12:00:00.1Z", "2026-04-05T12:00:00.100Z"),
            (
                "2026-04-05T12:00:00.123999999999Z",
                "2026-04-05T12:00:00.123Z",
            ),
            ("2026-04-05T12:00:00+02:30", "2026-04-05T09:30:00.000Z"),
            ("2026-04-05T00:00:00-23:59", "2026-04-05T23:59:00.000Z"),
            ("2026-04-05T12:00:00", "2026-04-05T12:00:00.000Z"),
            ("2026-04-05", "2026-04-05T00:00:00.000Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.9999Z", "9999-12-31T23:59:59.999Z"),
            ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "now",
            "1775390400",
            "2026-4-5",
            "2026-02-30",
            "2026-13-01T00:00:00Z",
            "2026-04-05T24:00:00Z",
            "2026-04-05T12:00Z",
            "2026-04-05T12:00:00.Z",
            "2026-04-05T12:00:00,5Z",
            "2026-04-05T12:00:61Z",
            "2026-04-05T12:00:00+0230",
            "2026-04-05T12:00:00+24:00",
            "2026-04-05T12:00:00Z ",
            " 2026-04-05",
            "2026-04-05T",
            "0000-12-31T23:59:59Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "+002026-04-05T12:00:00Z",
            "２026-04-05",
        ] {
            assert_eq!(shown(text), "must be an RFC 3339 timestamp", "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_of_display_is_identity(millis in MIN_MILLIS..=MAX_MILLIS) {
            let moment = Timestamp::from_millisecond(millis).unwrap();
            prop_assert_eq!(Timestamp::parse(&moment.to_string()), Ok(moment));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = Timestamp::parse(&text);
        }
    }
}
