//! How fast `master-key rewrap` and `verify` go beside bare `UPDATE`s of the same rows, which are the
//! least that a rewrap could cost: `cargo bench --bench rotation`.
//!
//! It starts a `grantex-vault dev` of its own and stops it again. The work is called in-process, as
//! the command line does: what is measured is the work, not the start of a program.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

#[expect(dead_code, reason = "starting an instance again is for others")]
mod instance;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use grantex_vault::{
    clock::{Clock, SystemClock},
    dev,
    envelope::{
        context::{Attributes, Place},
        kms::Kms,
        local_keyring::LocalKeyring,
        master_keys::MasterKeys,
    },
    model::{
        id::CredentialId,
        metadata::Metadata,
        restrictions::Restrictions,
        secret::{AccessToken, RefreshToken},
        service_name::ServiceName,
        text::{CredentialType, DeveloperId, PrincipalId},
    },
    pace::Pace,
    rotation::{Broken, Counts, Extent, Rotation, RotationFault, Watch},
    store::{Store, schema::Durability},
};
use instance::{Dev, connect, median};
use tokio_postgres::{Client, types::ToSql};
use zeroize::Zeroizing;

/// Seconds of `UPDATE`s. An unoptimised build only shows that the program works.
const CREDENTIALS: u32 = if cfg!(debug_assertions) { 500 } else { 20_000 };
/// What `--concurrency` is when nobody says.
const CONCURRENCY: usize = 8;
const REPETITIONS: usize = 3;

#[tokio::main]
async fn main() {
    let dev = Dev::start(&[]);
    let keyring = LocalKeyring::load(&dev::keyring_file(dev.directory.path()));
    let keyring = Arc::new(keyring.expect("the instance made it"));
    let sql = connect(&dev.instance.database_url).await;
    let ids = fill(&sql, &keyring, &dev.instance.developer_id).await;
    let lanes = join_all((0..CONCURRENCY).map(|_| connect(&dev.instance.database_url))).await;
    let rotation = rotation(&dev.instance.database_url, &keyring);

    // In turns, so that a slower minute of the machine is one of all three.
    let [mut updates, mut rewraps, mut verifies] = [const { Vec::new() }; 3];
    for _ in 0..REPETITIONS {
        vacuum(&sql).await;
        updates.push(rate(update(&lanes, &dev.instance.developer_id, &ids)).await);

        let key = keyring.add_key(SystemClock.now()).expect("it is our file");
        keyring.set_primary(key.version).expect("it was added");
        vacuum(&sql).await;
        rewraps.push(rate(complete(async |watch| rotation.rewrap(watch).await)).await);

        vacuum(&sql).await;
        let verify = complete(async |watch| rotation.verify(Extent::All, watch).await);
        verifies.push(rate(verify).await);
    }

    println!("{CREDENTIALS} credentials, {CONCURRENCY} at once, {REPETITIONS} repetitions\n");
    println!("              credentials/s (lowest to highest)   of bare UPDATEs");
    let bare = median(&mut updates);
    let names = ["bare UPDATE", "rewrap", "verify"];
    for (name, mut rates) in names.into_iter().zip([updates, rewraps, verifies]) {
        let median = median(&mut rates);
        let (lowest, highest) = (rates[0], rates[REPETITIONS - 1]);
        let range = format!("({lowest:.0} to {highest:.0})");
        let ratio = median / bare;
        println!("{name:<13} {median:>13.0} {range:<21} {ratio:>15.2}");
    }
}

/// Runs every row through the bare statement, a connection a lane: no more than one round trip and
/// one commit each, at the concurrency of the rotation.
async fn update(lanes: &[Client], developer: &str, ids: &[String]) {
    const SQL: &str = "
        update vault.credentials set wrapped_key = wrapped_key where developer_id = $1 and id = $2";
    let lane = async |(number, client): (usize, &Client)| {
        let statement = client.prepare(SQL).await.expect("the database answers");
        for id in ids.iter().skip(number).step_by(CONCURRENCY) {
            let updated = client.execute(&statement, &[&developer, id]).await;
            assert_eq!(updated.expect("the database answers"), 1);
        }
    };
    join_all(lanes.iter().enumerate().map(lane)).await;
}

/// Does what works on every credential, and insists that it did.
async fn complete(work: impl AsyncFnOnce(&Watch<'_>) -> Result<(), RotationFault>) {
    let report = |broken: &Broken| panic!("{broken}");
    let watch = Watch::new(&report);
    work(&watch).await.expect("nothing is in its way");
    let Counts { looked, done, .. } = watch.counts();
    assert_eq!((looked, done), (CREDENTIALS.into(), CREDENTIALS.into()));
}

/// Credentials a second.
async fn rate(work: impl Future<Output = ()>) -> f64 {
    let start = Instant::now();
    work.await;
    f64::from(CREDENTIALS) / start.elapsed().as_secs_f64()
}

/// Removes what the measurement before left behind, which would otherwise be charged to the next.
async fn vacuum(sql: &Client) {
    let vacuumed = sql.batch_execute("vacuum analyze vault.credentials").await;
    vacuumed.expect("the database answers");
}

/// As the command line makes it.
fn rotation(url: &str, keyring: &Arc<LocalKeyring>) -> Rotation {
    let store = Store::open(
        &url.parse().expect("a URL"),
        CONCURRENCY,
        Durability::Required,
    )
    .expect("no TLS");
    let keys = MasterKeys::new(Arc::<LocalKeyring>::clone(keyring), Vec::new());
    let pace = Pace::new(CONCURRENCY, None);
    Rotation::new(store, Arc::new(keys), Duration::from_secs(3), pace)
}

/// Stores really sealed credentials with tokens as long as GitHub's, a principal each. Their ids, in
/// the order of the primary key: that in which a rotation goes.
async fn fill(sql: &Client, keyring: &LocalKeyring, developer: &str) -> Vec<String> {
    const SQL: &str = "
        insert into vault.credentials (developer_id, id, principal_id, service, service_key,
            credential_type, access_token, refresh_token, wrapped_key, master_key, metadata,
            created_at, updated_at)
        select $1, id, principal, 'GitHub', 'github', 'oauth2', access, refresh, wrapped, $2, '{}',
            now(), now()
        from unnest($3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[])
            as sealed (id, principal, access, refresh, wrapped)";
    let service = ServiceName::parse("GitHub").expect("a service");
    let attributes = Attributes {
        service: &service,
        credential_type: &CredentialType::default(),
        token_expires_at: None,
        metadata: &Metadata::from_stored("{}").expect("an object"),
        restrictions: &Restrictions::default(),
    };
    let [mut ids, mut principals] = [const { Vec::new() }; 2];
    let [mut accesses, mut refreshes, mut wrapped] = [const { Vec::new() }; 3];
    for number in 0..CREDENTIALS {
        let principal = format!("user-{number}");
        let place = Place {
            developer: DeveloperId::parse(developer).expect("the instance made it"),
            principal: PrincipalId::parse(&principal).expect("a principal"),
            service: service.key().clone(),
        };
        let access = AccessToken::new(Zeroizing::new(format!("gho_{number:036}")));
        let refresh = RefreshToken::new(Zeroizing::new(format!("ghr_{number:072}")));
        let (access, refresh) = (access.expect("a token"), refresh.expect("a token"));
        let fresh = keyring.generate(&place.kms_context()).await;
        let fresh = fresh.expect("a local keyring answers");
        let (sealed, _) = fresh.seal(&place, &attributes, &access, Some(&refresh));
        ids.push(CredentialId::make(SystemClock.now()).to_string());
        principals.push(principal);
        accesses.push(sealed.access_token.as_bytes().to_vec());
        let refresh = sealed.refresh_token.expect("one was sealed");
        refreshes.push(refresh.as_bytes().to_vec());
        wrapped.push(sealed.data_key.bytes);
    }
    let primary = keyring.check().await.expect("a local keyring answers");
    let master_key = primary.as_str();
    let texts: [&(dyn ToSql + Sync); 4] = [&developer, &master_key, &ids, &principals];
    let bytes: [&(dyn ToSql + Sync); 3] = [&accesses, &refreshes, &wrapped];
    let inserted = sql.execute(SQL, &[&texts[..], &bytes[..]].concat()).await;
    inserted.expect("the database answers");
    ids.sort_unstable();
    ids
}
