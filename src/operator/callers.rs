//! Who operates.

use std::{
    future::pending,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};
use uuid::Uuid;

use super::OperatorError;
use crate::{
    audit::{
        event::{AuditEvent, Caller, Denial, Outcome},
        journal::Journal,
    },
    auth::admin_token::AdminToken,
    limits::FailedLogins,
    model::{
        certificate::{CertificateName, ClientCertificate},
        request::{Operation, RequestContext, Transport},
        text::OperatorName,
    },
};

/// An address whose logins fail too often waits this long for each further refusal.
const REFUSAL_DELAY: Duration = Duration::from_secs(1);
/// How many refusals wait; more are answered at once.
const MAX_DELAYED: usize = 100;

/// An operator who may do everything in this room, and the request that it makes.
#[derive(Debug, Clone)]
pub struct KnownOperator {
    pub(super) request: RequestContext,
    name: OperatorName,
}

/// How operators are known on their listener: by a client certificate or by the token.
pub struct OperatorLogin {
    token: Option<AdminToken>,
    names: Vec<CertificateName>,
    failed: FailedLogins,
    journal: Arc<Journal>,
    delayed: Semaphore,
}

// === impl OperatorLogin ===

impl OperatorLogin {
    /// Admits by this token, if there is one, and by verified certificates with one of these names.
    /// Logins that fail are limited for each address and
    /// recorded in this journal.
    #[must_use]
    pub fn new(
        token: Option<AdminToken>,
        names: Vec<CertificateName>,
        failed: FailedLogins,
        journal: Arc<Journal>,
    ) -> Self {
        Self {
            token,
            names,
            failed,
            journal,
            delayed: Semaphore::new(MAX_DELAYED),
        }
    }

    /// Knows an operator by a client certificate that the listener has verified and that has one of
    /// the names, or else by the token; nobody, when there is no token.
    ///
    /// A failure is recorded before it is answered, unless its address has failed too often: then
    /// the answer is late and nothing is recorded, so that whoever guesses cannot fill the record.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Unauthenticated`], [`OperatorError::TooManyFailures`], or
    /// [`OperatorError::Audit`] when the failure could not be recorded.
    pub async fn log_in(
        &self,
        request: RequestContext,
        certificate: Option<&ClientCertificate>,
        presented: Option<&str>,
    ) -> Result<KnownOperator, OperatorError> {
        let name = match certificate.and_then(|certificate| self.by_name(certificate)) {
            Some(name) => Some(name),
            None => self.by_token(presented).await,
        };
        match name {
            Some(name) => Ok(KnownOperator { request, name }),
            None => Err(self.failed(request).await),
        }
    }

    fn by_name(&self, certificate: &ClientCertificate) -> Option<OperatorName> {
        let (name, serial) = certificate.known_as(&self.names)?;
        let name = format!("cert:{}:{serial}", name.as_str());
        Some(OperatorName::parse(&name).expect("both are visible and short"))
    }

    async fn by_token(&self, presented: Option<&str>) -> Option<OperatorName> {
        let admitted = self.token.as_ref()?.admits(presented?).await;
        admitted.then(|| OperatorName::parse("token").expect("a short word"))
    }

    async fn failed(&self, request: RequestContext) -> OperatorError {
        if let Err(exceeded) = self.failed.count(request.peer) {
            if let Ok(_permit) = self.delayed.try_acquire() {
                let _ = timeout(REFUSAL_DELAY, pending::<()>()).await;
            }
            return OperatorError::TooManyFailures(exceeded);
        }
        let nobody = OperatorName::parse("unknown").expect("a short word");
        let caller = Caller::Operator(nobody);
        let event = AuditEvent {
            outcome: Outcome::Denied(Denial::UnknownOperator),
            ..AuditEvent::of_operation(request, caller, Operation::LogIn, None, None)
        };
        match self.journal.record(&event).await {
            Ok(_) => OperatorError::Unauthenticated,
            Err(unrecorded) => unrecorded.into(),
        }
    }
}

// === impl KnownOperator ===

impl KnownOperator {
    /// Whoever runs a command on a machine that has the vault's database: the operating system's user
    /// of this number.
    #[must_use]
    pub fn at_the_command_line(user: u32) -> Self {
        Self {
            request: RequestContext {
                id: Uuid::new_v4(),
                trace: None,
                transport: Transport::CommandLine,
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            },
            name: OperatorName::parse(&format!("uid {user}")).expect("a word and a number"),
        }
    }

    /// As the audit record names it.
    #[must_use]
    pub fn name(&self) -> &OperatorName {
        &self.name
    }

    /// The request that it makes.
    #[must_use]
    pub fn request(&self) -> RequestContext {
        self.request
    }

    pub(super) fn caller(&self) -> Caller {
        Caller::Operator(self.name.clone())
    }
}
