//! Reading what requests bring, in bounded memory.
//!
//! A body of a few KiB that comes with its headers costs nothing here: that is nearly every one. One
//! that is waited for, or that is large, has a permit of its own, so that slow and large bodies are few
//! and are those of many callers.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use tokio::time::{Instant, timeout, timeout_at};

use super::in_flight::interrupted;
use crate::{
    metrics::{Limit, Metrics},
    model::{request::Interruption, text::DeveloperId},
    permits::{FairPermits, OverShare, Permit, Refused, Rules},
};

/// A body up to this is small.
const SMALL_BYTES: usize = 8 * 1024;
/// Small bodies that are waited for: 8 MiB of them.
const SLOW: Rules = Rules {
    permits: 1024,
    share: 256,
    queue: 1024,
    patience: Duration::from_secs(2),
    over_share: OverShare::Waits,
};
/// Large bodies, as long as their requests are under way: 64 MiB of them.
const LARGE: Rules = Rules {
    permits: 64,
    share: 16,
    queue: 1024,
    patience: Duration::from_secs(5),
    over_share: OverShare::Waits,
};
/// While others wait, a body of a caller that has more than its share has no more than this.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(1);

/// The bodies of callers that are known.
pub struct Bodies {
    slow: FairPermits,
    large: FairPermits,
    metrics: Metrics,
}

/// A body that was read. One that is large holds its permit.
pub struct ReadBody {
    /// All of it.
    pub bytes: Bytes,
    large: Option<Permit>,
}

/// How much is read, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// At most so many bytes.
    pub max_bytes: usize,
    /// For so long at most.
    pub time: Duration,
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It has more bytes than are read.
    TooLarge,
    /// The client broke it off.
    Broken,
    /// It did not arrive in time.
    TimedOut,
    /// Too many others are read.
    Interrupted(Interruption),
}

/// What a body takes.
#[derive(Default)]
struct Held {
    slow: Option<Permit>,
    large: Option<Permit>,
}

impl Bodies {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            slow: FairPermits::new(SLOW),
            large: FairPermits::new(LARGE),
            metrics: metrics.clone(),
        }
    }

    /// Reads the body of a request of a developer, or of an agent of it.
    ///
    /// # Errors
    ///
    /// [`BodyError`].
    pub async fn read<B>(
        &self,
        developer: &DeveloperId,
        body: B,
        limits: BodyLimits,
    ) -> Result<ReadBody, BodyError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let read = timeout(limits.time, self.collect(developer, body, limits.max_bytes)).await;
        read.unwrap_or(Err(BodyError::TimedOut))
    }

    /// Makes more of a body that was read, by decompressing it: at most `max_bytes`, and beyond what is
    /// small only with a permit of those for large bodies. `expand` answers `None` when it would have made
    /// more than it is told. It may be asked twice, so that nothing is held while a permit is awaited.
    ///
    /// # Errors
    ///
    /// [`BodyError`], or what `expand` answers.
    pub async fn expand<E: From<BodyError>>(
        &self,
        developer: &DeveloperId,
        read: ReadBody,
        max_bytes: usize,
        expand: impl Fn(&Bytes, usize) -> Result<Option<Bytes>, E>,
    ) -> Result<ReadBody, E> {
        let large = match read.large {
            Some(permit) => permit,
            None => match expand(&read.bytes, SMALL_BYTES)? {
                Some(bytes) => return Ok(ReadBody { bytes, large: None }),
                None => self.permit(&self.large, developer).await?,
            },
        };
        let expanded = expand(&read.bytes, max_bytes)?;
        Ok(ReadBody {
            bytes: expanded.ok_or(BodyError::TooLarge)?,
            large: Some(large),
        })
    }

    async fn collect<B>(
        &self,
        developer: &DeveloperId,
        mut body: B,
        max_bytes: usize,
    ) -> Result<ReadBody, BodyError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let since = Instant::now();
        let (mut bytes, mut held) = (BytesMut::new(), Held::default());
        loop {
            let data = match at_hand(&mut body).await {
                Poll::Ready(data) => data?,
                Poll::Pending => {
                    let permit = match &held.large {
                        Some(permit) => permit,
                        None => match &mut held.slow {
                            Some(permit) => permit,
                            none => none.insert(self.permit(&self.slow, developer).await?),
                        },
                    };
                    next(&mut body, permit, since).await?
                }
            };
            let Some(data) = data else {
                break;
            };
            let length = bytes.len() + data.len();
            if length > max_bytes {
                return Err(BodyError::TooLarge);
            }
            if length > SMALL_BYTES && held.large.is_none() {
                held.large = Some(self.permit(&self.large, developer).await?);
                held.slow = None;
            }
            if bytes.is_empty() && body.is_end_stream() {
                return Ok(ReadBody::new(data, held));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(ReadBody::new(bytes.freeze(), held))
    }

    async fn permit(
        &self,
        permits: &FairPermits,
        developer: &DeveloperId,
    ) -> Result<Permit, BodyError> {
        let permit = permits.acquire(developer).await;
        permit.map_err(|why: Refused| {
            let limit = Limit::InFlightPerDeveloper;
            BodyError::Interrupted(interrupted(&self.metrics, limit, why))
        })
    }
}

/// Reads the body of a request that holds a permit already.
///
/// # Errors
///
/// [`BodyError`].
pub async fn read_under<B>(
    permit: &Permit,
    mut body: B,
    limits: BodyLimits,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let since = Instant::now();
    let collected = async {
        let mut bytes = BytesMut::new();
        while let Some(data) = next(&mut body, permit, since).await? {
            if bytes.len() + data.len() > limits.max_bytes {
                return Err(BodyError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    let read = timeout(limits.time, collected).await;
    read.unwrap_or(Err(BodyError::TimedOut))
}

/// The next bytes, `None` at the end of the body; trailers are none of ours.
type Data = Result<Option<Bytes>, BodyError>;

/// The next bytes if they have arrived.
async fn at_hand<B>(body: &mut B) -> Poll<Data>
where
    B: Body<Data = Bytes> + Unpin,
{
    poll_fn(|context| Poll::Ready(poll_data(body, context))).await
}

/// Waits for the next bytes, and no longer than is fair.
async fn next<B>(body: &mut B, permit: &Permit, since: Instant) -> Data
where
    B: Body<Data = Bytes> + Unpin,
{
    let crowded = async {
        let _ = timeout_at(since + CROWDED_TIMEOUT, pending::<()>()).await;
        permit.is_over_share().await;
    };
    tokio::select! {
        biased;
        data = poll_fn(|context| poll_data(body, context)) => data,
        () = crowded => Err(BodyError::TimedOut),
    }
}

fn poll_data<B>(body: &mut B, context: &mut Context<'_>) -> Poll<Data>
where
    B: Body<Data = Bytes> + Unpin,
{
    Pin::new(body).poll_frame(context).map(|frame| match frame {
        None => Ok(None),
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
        Some(Err(_)) => Err(BodyError::Broken),
    })
}

// === impl ReadBody ===

impl ReadBody {
    fn new(bytes: Bytes, held: Held) -> Self {
        Self {
            bytes,
            large: held.large,
        }
    }
}
