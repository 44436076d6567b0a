//! Why grant tokens are refused, for the operator: each in a metric, and a sample of them in the log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    auth::rejection::Rejection,
    clock::Clock,
    metrics::Metrics,
    model::{request::RequestContext, timestamp::Timestamp},
};

/// So many lines are written in each window: whoever sends made-up tokens must not fill the log.
const LINES: u64 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// Counts and logs rejections.
pub(super) struct RejectedTokens {
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    sample: Mutex<Sample>,
}

/// What was logged in the current window.
struct Sample {
    since: Timestamp,
    lines: u64,
    left_out: u64,
}

impl RejectedTokens {
    pub(super) fn new(metrics: Metrics, clock: Arc<dyn Clock>) -> Self {
        let sample = Mutex::new(Sample {
            since: clock.now(),
            lines: 0,
            left_out: 0,
        });
        Self {
            metrics,
            clock,
            sample,
        }
    }

    /// Counts a rejection, and logs it unless many were logged lately.
    pub(super) fn note(&self, request: RequestContext, rejection: &Rejection) {
        self.metrics.grant_token_rejected(rejection.check());
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = sample.admit(self.clock.now()) else {
            return;
        };
        drop(sample);
        tracing::info!(
            target: "grantex_vault::grant",
            request_id = %request.id,
            reason = rejection.check().as_str(),
            member = rejection.member(),
            expected = rejection.expected(),
            presented = rejection.presented_value(),
            left_out,
            "a grant token was refused"
        );
    }
}

impl Sample {
    /// How many were left out since the last line, if there is to be one now.
    fn admit(&mut self, now: Timestamp) -> Option<u64> {
        if now.since(self.since) >= WINDOW {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_twenty_lines_and_the_next_one_says_how_many_were_left_out() {
        let at = |second: i64| Timestamp::from_millisecond(second * 1000).unwrap();
        let mut sample = Sample {
            since: at(0),
            lines: 0,
            left_out: 0,
        };
        for _ in 0..LINES {
            assert_eq!(sample.admit(at(1)), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(sample.admit(at(9)), None);
        }
        assert_eq!(sample.admit(at(10)), Some(7));
        assert_eq!(sample.admit(at(10)), Some(0));
    }
}
