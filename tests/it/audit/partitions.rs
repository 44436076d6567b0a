//! Partitions of the audit: made ahead, without a gap, and never in the way of an event.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use grantex_vault::clock::Clock;
use tokio_postgres::{Client, error::SqlState};

use crate::harness::{Cluster, Server, Setup, Via, connect, until};

const DAY: Duration = Duration::from_hours(24);

/// A partition as it was recorded: its bounds, whether they follow from one another, its name, and
/// whether it stands in Postgres with these bounds.
struct Partition {
    name: Option<String>,
    is_in_place: bool,
    follows_the_last: bool,
    days: f64,
}

async fn partitions(sql: &Client) -> Vec<Partition> {
    const SQL: &str = "
        select p.name, coalesce(pg_get_expr(c.relpartbound, c.oid) = format(
                'FOR VALUES FROM (%L) TO (%L)', vault.ulid_of(from_time), vault.ulid_of(to_time)), false),
            coalesce(lag(to_time) over (order by from_time) = from_time, true),
            extract(epoch from to_time - from_time)::float8 / 86400
        from vault.audit_partitions p
        left join pg_class c on c.relname = p.name and c.relnamespace = 'vault'::regnamespace
            and exists (select from pg_inherits where inhrelid = c.oid
                and inhparent = 'vault.audit_events'::regclass)
        order by from_time";
    let rows = sql.query(SQL, &[]).await.unwrap();
    let partition = |row: &tokio_postgres::Row| Partition {
        name: row.get(0),
        is_in_place: row.get(1),
        follows_the_last: row.get(2),
        days: row.get(3),
    };
    rows.iter().map(partition).collect()
}

/// As before any was made: all events go to the default partition.
async fn forget_partitions(sql: &Client) {
    const SQL: &str = "
        do $$
        declare partition text;
        begin
            for partition in select name from vault.audit_partitions loop
                execute format('drop table vault.%I', partition);
            end loop;
            delete from vault.audit_partitions;
        end $$";
    sql.batch_execute(SQL).await.unwrap();
}

/// A migrated database that no server makes partitions in.
async fn database() -> (String, Client) {
    let url = Cluster::shared().await.database().await;
    let sql = connect(&url).await;
    (url, sql)
}

async fn make(sql: &Client, unit: &str) -> Result<i32, tokio_postgres::Error> {
    const SQL: &str = "select vault.make_audit_partitions($1)";
    Ok(sql.query_one(SQL, &[&unit]).await?.get(0))
}

/// Where the newest event stands.
async fn newest_in(sql: &Client) -> String {
    const SQL: &str = "
        select relname::text from vault.audit_events e join pg_class c on c.oid = e.tableoid
        order by id desc limit 1";
    sql.query_one(SQL, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn events_stand_in_the_partition_of_their_month_or_in_the_one_for_the_rest() {
    for via in Via::BOTH {
        let server = Server::start().await;
        let tenant = server.tenant("acme").await;
        let sql = server.sql().await;
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        // Two months ahead there are partitions.
        for days in [0, 31, 25] {
            server.clock.advance(DAY * days);
            let agent = server.agent(via, &tenant, "user");
            until("the issuer's keys are fresh", async || {
                agent.exchange("github").await.is_ok()
            })
            .await;
            let now = server.clock.now().to_string();
            let month = now[..7].replace('-', "_");
            let expected = format!("audit_events_{month}_01");
            assert_eq!(newest_in(&sql).await, expected);
        }
        server.clock.advance(DAY * 1000);
        let agent = server.agent(via, &tenant, "user");
        until("the issuer's keys are fresh", async || {
            agent.exchange("github").await.is_ok()
        })
        .await;
        assert_eq!(newest_in(&sql).await, "audit_events_default");
        developer.list().await.unwrap();
        assert_eq!(newest_in(&sql).await, "audit_events_default");
    }
}

#[tokio::test]
async fn partitions_are_made_ahead_without_a_gap_and_once() {
    for (unit, at_least, days) in [("month", 3, 28.0..=31.0), ("day", 8, 1.0..=1.0)] {
        let (_, sql) = database().await;
        forget_partitions(&sql).await;
        let made = make(&sql, unit).await.unwrap();
        let found = partitions(&sql).await;
        assert_eq!(usize::try_from(made).unwrap(), found.len());
        assert!(found.len() >= at_least, "{unit}: {made}");
        for partition in &found {
            assert!(partition.name.is_some() && partition.is_in_place);
            assert!(partition.follows_the_last);
            assert!(days.contains(&partition.days), "{}", partition.days);
        }
        assert_eq!(make(&sql, unit).await.unwrap(), 0, "they are there");
        assert_eq!(partitions(&sql).await.len(), found.len());
        // They begin with what is now and reach as far as they have to.
        let ahead = if unit == "day" { "7 days" } else { "2 months" };
        let covered = format!(
            "select min(from_time) = date_trunc('{unit}', now(), 'UTC')
                and max(to_time) > now() + interval '{ahead}' from vault.audit_partitions"
        );
        assert!(
            sql.query_one(&covered, &[])
                .await
                .unwrap()
                .get::<_, bool>(0)
        );
    }
}

#[tokio::test]
async fn days_follow_months_and_months_follow_days() {
    let (_, sql) = database().await;
    // The months that migrating made are over but for the first.
    for (unit, other, back) in [("month", "day", "1 month"), ("day", "month", "3 days")] {
        forget_partitions(&sql).await;
        make(&sql, unit).await.unwrap();
        // So that there is something to make.
        let cut = format!(
            "do $$ declare partition text; begin
                for partition in delete from vault.audit_partitions
                    where from_time > now() + interval '{back}' - interval '1 day' returning name loop
                    execute format('drop table vault.%I', partition);
                end loop;
            end $$"
        );
        sql.batch_execute(&cut).await.unwrap();
        let before = partitions(&sql).await.len();
        let made = make(&sql, other).await.unwrap();
        let found = partitions(&sql).await;
        assert_eq!(found.len(), before + usize::try_from(made).unwrap());
        assert!(
            found
                .iter()
                .all(|one| one.follows_the_last && one.is_in_place)
        );
    }
}

#[tokio::test]
async fn a_time_whose_events_are_in_the_default_partition_is_left_to_it() {
    for unit in ["month", "day"] {
        let (url, sql) = database().await;
        forget_partitions(&sql).await;
        let event = "insert into vault.audit_events (developer_id, id, outcome, canonical)
            values ('acme', vault.ulid_of(now()) || '0123456789ABCDEF', 'read', '{}')";
        sql.batch_execute(event).await.unwrap();
        assert_eq!(newest_in(&sql).await, "audit_events_default");

        let made = make(&sql, unit).await.unwrap();
        let found = partitions(&sql).await;
        assert_eq!(found.len(), usize::try_from(made).unwrap() + 1);
        assert!(found[0].name.is_none(), "the one of now");
        assert!(found[1..].iter().all(|one| one.is_in_place));
        assert!(found.iter().all(|one| one.follows_the_last));
        assert_eq!(make(&sql, unit).await.unwrap(), 0, "not tried again");
        let server = Setup::new().with("DATABASE_URL", &url).start().await;
        let tenant = server.tenant("acme").await;
        for via in Via::BOTH {
            assert!(server.client(via, &tenant.key).list().await.is_ok());
            assert_eq!(newest_in(&sql).await, "audit_events_default");
        }
        assert_eq!(server.audit_events().await.len(), 3);
    }
}

#[tokio::test]
async fn every_partition_is_analysed_by_a_small_sample() {
    // Its columns, and the expressions in its indexes.
    const SAMPLED_BY_DEFAULT: &str = "
        select c.relname || '.' || a.attname
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        where a.attnum > 0 and not a.attisdropped and coalesce(a.attstattarget, -1) <> 10
          and (c.oid in (select inhrelid from pg_inherits
                  where inhparent = 'vault.audit_events'::regclass)
            or exists (select from pg_index i join pg_inherits on inhrelid = i.indrelid
                  where inhparent = 'vault.audit_events'::regclass
                    and i.indexrelid = c.oid and i.indkey[a.attnum - 1] = 0))";
    let (_, sql) = database().await;
    let sampled_by_default = async || {
        let rows = sql.query(SAMPLED_BY_DEFAULT, &[]).await.unwrap();
        let names = rows.iter().map(|row| row.get(0));
        names.collect::<Vec<String>>()
    };
    let of_the_migration = sampled_by_default().await;
    assert!(of_the_migration.is_empty(), "{of_the_migration:?}");
    for unit in ["day", "month"] {
        forget_partitions(&sql).await;
        assert!(make(&sql, unit).await.unwrap() > 0);
        let made = sampled_by_default().await;
        assert!(made.is_empty(), "{unit}: {made:?}");
    }
}

#[tokio::test]
async fn several_may_make_partitions_at_once() {
    let (url, sql) = database().await;
    forget_partitions(&sql).await;
    let makers = join_all((0..8).map(async |_| make(&connect(&url).await, "day").await)).await;
    let made: i32 = makers.into_iter().map(|made| made.unwrap()).sum();
    let found = partitions(&sql).await;
    assert_eq!(found.len(), usize::try_from(made).unwrap());
    assert!(
        found
            .iter()
            .all(|one| one.follows_the_last && one.is_in_place)
    );
}

#[tokio::test]
async fn other_units_are_refused() {
    let (_, sql) = database().await;
    for unit in ["year", "week", "hour", "Month", "", "'; drop"] {
        let refused = make(&sql, unit).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::RAISE_EXCEPTION), "{unit}");
    }
}

#[tokio::test]
async fn who_makes_partitions_waits_a_second_for_a_lock_and_no_longer() {
    let (url, sql) = database().await;
    let holder = connect(&url).await;
    for table in ["audit_partitions", "audit_events_default"] {
        forget_partitions(&sql).await;
        let lock = format!("begin; lock table vault.{table} in row exclusive mode");
        holder.batch_execute(&lock).await.unwrap();
        let since = Instant::now();
        let refused = make(&sql, "month").await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));
        assert!(since.elapsed() < Duration::from_secs(4), "{table}");
        assert!(partitions(&sql).await.is_empty());
        holder.batch_execute("rollback").await.unwrap();
        assert!(make(&sql, "month").await.unwrap() > 0);
    }
}
