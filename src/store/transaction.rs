//! Transactions, and their end together with an event.

use std::{pin::pin, slice, task::Poll};

use deadpool_postgres::Object;
use futures_util::{FutureExt, join, poll};
use tracing::Instrument;

use super::{
    Connection, Progress, Query, StoreFault,
    audit_events::{self, AuditEventRow, Tried},
    authority::Authority,
    database_span, deadline,
    durable::durably,
    fault_of,
};

/// A transaction; it is rolled back unless it is committed.
pub struct Transaction<'a> {
    pub(super) inner: &'a Object,
    pub(super) progress: &'a Progress,
    pub(super) authority: Authority,
    has_ended: bool,
}

const BEGIN: &str = concat!("begin isolation level read committed; select ", durably!());

impl Connection {
    /// Begins a transaction whose every statement sees what was committed before it began, whatever
    /// the database's default is: retiring a master key relies on that. What it commits is durable.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, StoreFault> {
        let this = Transaction {
            inner: self.client(),
            progress: &self.progress,
            authority: self.authority,
            has_ended: false,
        };
        let begin = this.deadline(this.inner.batch_execute(BEGIN));
        begin.instrument(database_span!("begin")).await?;
        Ok(this)
    }
}

impl Transaction<'_> {
    /// Commits. Only after this has answered is anything of it acknowledged.
    ///
    /// # Errors
    ///
    /// When the database does not answer: whether it committed is then unknown.
    pub async fn commit(mut self) -> Result<(), StoreFault> {
        self.has_ended = true;
        let commit = self.deadline(self.inner.batch_execute("commit"));
        commit.instrument(database_span!("commit")).await
    }

    /// Appends an event and commits, in one round trip; both are durable, or neither.
    ///
    /// # Errors
    ///
    /// When the database does not answer: whether it committed is then unknown. When it refuses the
    /// event, and then nothing is committed.
    pub async fn commit_with(mut self, event: &AuditEventRow) -> Result<(), StoreFault> {
        let prepare = audit_events::prepare(self.inner, Tried::Never);
        let statement = self.deadline(prepare).await?;
        // Each is sent when it is polled first, so in this order: the commit of a transaction in which a
        // statement was refused is a rollback. An event that could not be sent is answered at once.
        let (client, events) = (self.inner, slice::from_ref(event));
        let mut append = pin!(audit_events::execute(client, &statement, events));
        if let Poll::Ready(appended) = poll!(append.as_mut()) {
            appended.map_err(fault_of)?;
            return self.commit().await;
        }
        // Only now: who gave up before, or failed, has it rolled back.
        self.has_ended = true;
        let work = async {
            let (appended, committed) = join!(append, client.batch_execute("commit"));
            appended?;
            committed
        };
        let committed = self.deadline(work);
        committed.instrument(database_span!("commit")).await
    }

    pub(super) async fn deadline<T>(
        &self,
        work: impl Future<Output = Query<T>>,
    ) -> Result<T, StoreFault> {
        deadline(self.progress, work).await
    }
}

impl Drop for Transaction<'_> {
    /// Sends the rollback and waits for nothing: what is asked next on the connection comes after it.
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = self.inner.batch_execute("rollback").now_or_never();
        }
    }
}
