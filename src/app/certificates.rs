//! What each listener is secured with: read at start, followed from then on.

use std::{sync::Arc, time::Duration};

use super::background;
use crate::{
    clock::Clock,
    config::{Config, ConfigFaults},
    listener::tls::{ClientAuthorities, Tls, TlsFiles},
    shutdown::Shutdown,
};

/// The TLS of each listener; `None` of one that speaks in clear.
#[derive(Clone)]
pub(super) struct Certificates {
    /// What both public listeners, REST and gRPC, are served with.
    pub(super) public: Option<Arc<Tls>>,
    /// What the listener of probes and metrics is served with.
    pub(super) admin: Option<Arc<Tls>>,
    /// What the listener of operators is served with.
    pub(super) operators: Option<Arc<Tls>>,
}

impl Certificates {
    /// Reads the files. No authority may admit both public clients and operators.
    pub(super) fn load(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, ConfigFaults> {
        let authorities = Arc::new(ClientAuthorities::default());
        let load = |files: Option<&TlsFiles>| {
            let load = |files| Tls::load(files, Arc::clone(clock), Arc::clone(&authorities));
            let tls = files.cloned().map(load).transpose();
            tls.map(|tls| tls.map(Arc::new))
                .map_err(|fault| ConfigFaults::one(fault.setting, fault))
        };
        let operators = config.operators.as_ref();
        Ok(Self {
            public: load(config.tls.as_ref())?,
            admin: load(config.admin.tls.as_ref())?,
            operators: load(operators.and_then(|operators| operators.tls.as_ref()))?,
        })
    }

    /// Takes up files that change, until the shutdown begins.
    pub(super) fn follow_files(self, look_every: Duration, shutdown: &Shutdown) {
        let all = [self.public, self.admin, self.operators];
        for tls in all.into_iter().flatten() {
            background::spawn(shutdown, async move { tls.follow_files(look_every).await });
        }
    }
}
