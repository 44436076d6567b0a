//! TLS for the listeners: what is served, and taking up files that changed.

mod authorities;
mod files;
mod material;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, pki_types::UnixTime, server::NoServerSessionStorage, time_provider::TimeProvider,
};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::Protocol;
use crate::{
    clock::Clock,
    model::{certificate::ClientCertificate, timestamp::Timestamp},
};
use files::{Fingerprint, Reading};
use material::Material;

pub use authorities::ClientAuthorities;
pub use files::{Listener, TlsFile, TlsFiles};
pub use material::{Problem, TlsFault, Validity};

/// What connections are secured with. It follows the files: see [`Tls::follow_files`].
///
/// Everything of one set of files is swapped at once, session tickets among it: nobody resumes
/// under client CAs that are no longer trusted. Connections that are open keep what they began
/// with.
pub struct Tls {
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    authorities: Arc<ClientAuthorities>,
    serving: ArcSwap<Serving>,
}

/// What one set of files says.
struct Serving {
    http: Arc<ServerConfig>,
    grpc: Arc<ServerConfig>,
    validity: Validity,
    fingerprint: Fingerprint,
}

/// Reads a set of files as a server would beside those that were read before, and forgets it; answers
/// when its certificate is valid.
///
/// # Errors
///
/// What a server would refuse. A certificate that has expired is not among it, see
/// [`Validity::now`].
pub fn check(files: &TlsFiles, authorities: &ClientAuthorities) -> Result<Validity, TlsFault> {
    let contents = files.read().contents?;
    let material = Material::parse(files, &contents)?;
    material.enter(files, authorities)?;
    Ok(material.validity)
}

/// What became of files that have changed.
enum Judged {
    /// Nothing but another change can change it.
    ForGood,
    /// Another listener's files stand in their way, and may change.
    ForNow,
}

impl Tls {
    /// Reads the files, and enters whom they admit.
    ///
    /// # Errors
    ///
    /// When they cannot be served with, or admit whom another listener must not. A certificate that has expired can, with a warning: clients
    /// say more clearly than a server that does not start what is wrong.
    pub fn load(
        files: TlsFiles,
        clock: Arc<dyn Clock>,
        authorities: Arc<ClientAuthorities>,
    ) -> Result<Self, TlsFault> {
        let serving = Serving::from_reading(&files, files.read(), &clock, &authorities)?;
        serving.announce("TLS is on", clock.now());
        Ok(Self {
            files,
            clock,
            authorities,
            serving: ArcSwap::from_pointee(serving),
        })
    }

    /// When the certificate that is served expires.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.serving.load().validity.not_after
    }

    /// Takes up what the files say whenever that changes; never ends.
    ///
    /// Their contents are compared, because a secret that Kubernetes mounts changes by the target
    /// of a symbolic link two directories up. A change is taken up once two looks in a row see the
    /// same, so that half a chain, which cannot be recognised, has time to become whole. A set that
    /// cannot be used changes nothing and is said once.
    pub async fn follow_files(&self, look_every: Duration) {
        let mut judged = self.serving.load().fingerprint;
        let mut seen = judged;
        let mut deferred = None;
        let mut looks = interval(look_every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let files = self.files.clone();
            let Ok(reading) = spawn_blocking(move || files.read()).await else {
                continue;
            };
            let settled = reading.fingerprint == seen;
            seen = reading.fingerprint;
            if settled && seen != judged {
                let is_news = deferred != Some(seen);
                deferred = match self.take_up(reading, is_news) {
                    Judged::ForGood => None,
                    Judged::ForNow => Some(seen),
                };
                if deferred.is_none() {
                    judged = seen;
                }
            }
        }
    }

    fn take_up(&self, reading: Reading, is_news: bool) -> Judged {
        if reading.fingerprint == self.serving.load().fingerprint {
            tracing::info!("the TLS files say again what is served");
            return Judged::ForGood;
        }
        match Serving::from_reading(&self.files, reading, &self.clock, &self.authorities) {
            Ok(serving) => {
                serving.announce("the TLS files have changed", self.clock.now());
                self.serving.store(Arc::new(serving));
                Judged::ForGood
            }
            Err(fault) => {
                if is_news {
                    let setting = fault.setting;
                    tracing::warn!("{setting} {fault}; what was read before is served on");
                }
                match fault.problem {
                    Problem::SharedAuthority => Judged::ForNow,
                    _ => Judged::ForGood,
                }
            }
        }
    }

    /// The certificate that the client of a connection has presented, which was verified. One of an operator
    /// has no names when an authority of public clients signed it: each of their clients could have one.
    pub(super) fn client_certificate<S>(&self, stream: &TlsStream<S>) -> Option<ClientCertificate> {
        let (_, connection) = stream.get_ref();
        let presented = connection.peer_certificates()?;
        let is_operators = self.files.listener == Listener::Operators;
        if is_operators && self.authorities.are_of_public_clients(presented) {
            return Some(ClientCertificate::new(Vec::new(), &[]));
        }
        Some(material::client_certificate(presented.first()?))
    }

    /// What a new connection begins with.
    pub(super) fn acceptor(&self, protocol: Protocol) -> TlsAcceptor {
        let serving = self.serving.load();
        TlsAcceptor::from(Arc::clone(match protocol {
            Protocol::Http => &serving.http,
            Protocol::Http2 => &serving.grpc,
        }))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

// === impl Serving ===

impl Serving {
    fn from_reading(
        files: &TlsFiles,
        reading: Reading,
        clock: &Arc<dyn Clock>,
        authorities: &ClientAuthorities,
    ) -> Result<Self, TlsFault> {
        let material = Material::parse(files, &reading.contents?)?;
        material.enter(files, authorities)?;
        Ok(Self {
            http: server_config(&material, &[b"h2", b"http/1.1"], clock),
            grpc: server_config(&material, &[b"h2"], clock),
            validity: material.validity,
            fingerprint: reading.fingerprint,
        })
    }

    fn announce(&self, what: &str, now: Timestamp) {
        let not_after = self.validity.not_after;
        tracing::info!(%not_after, "{what}");
        if let Err(problem) = self.validity.now(now) {
            tracing::warn!(%not_after, "the TLS certificate {problem}");
        }
    }
}

/// TLS 1.2 and 1.3. A client that offers protocols, but none of these, is refused; one that offers
/// none may go on, since some proxies speak HTTP/2 without saying so.
fn server_config(
    material: &Material,
    protocols: &[&[u8]],
    clock: &Arc<dyn Clock>,
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let time = Arc::new(OurTime(Arc::clone(clock)));
    let builder = ServerConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3");
    let mut config = match &material.client_verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
    }
    .with_cert_resolver(Arc::clone(&material.certificate) as _);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    if material.client_verifier.is_some() {
        // Who resumes is not verified again: a certificate would outlive its expiry.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Arc::new(config)
}

/// Our clock, for the validity of clients' certificates.
struct OurTime(Arc<dyn Clock>);

impl TimeProvider for OurTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl fmt::Debug for OurTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OurTime")
    }
}
