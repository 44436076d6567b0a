//! `vault.audit_events` as operators look at it: everybody's, the last commit first.

use tokio_postgres::types::ToSql;

use super::{
    Store, StoreFault,
    audit_order::{WholeEvent, whole, whole_columns},
    patiently,
};
use crate::model::timestamp::Timestamp;

/// What an operator looks for; what is not given matches everything.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Only this developer's.
    pub developer: Option<String>,
    /// Only about this principal.
    pub principal: Option<String>,
    /// Only for this service, by what services compare by.
    pub service_key: Option<String>,
    /// Only about this credential.
    pub credential: Option<String>,
    /// Only with this grant.
    pub grant: Option<String>,
    /// Only what ended like this.
    pub outcome: Option<String>,
    /// Not before this.
    pub from: Option<Timestamp>,
    /// Before this.
    pub to: Option<Timestamp>,
}

impl Look {
    /// Whether an event is looked for, whatever its time.
    #[must_use]
    pub fn takes(&self, event: &WholeEvent) -> bool {
        let wanted = [
            (&self.developer, Some(&event.place.developer)),
            (&self.principal, event.principal_id.as_ref()),
            (&self.service_key, event.service_key.as_ref()),
            (&self.credential, event.credential_id.as_ref()),
            (&self.grant, event.grant_id.as_ref()),
            (&self.outcome, Some(&event.outcome)),
        ];
        let fits = |(wanted, found): (&Option<String>, Option<&String>)| {
            wanted.is_none() || wanted.as_ref() == found
        };
        wanted.into_iter().all(fits)
    }
}

impl Store {
    /// The last events that were committed, the last first.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn last_audit_events(
        &self,
        look: &Look,
        limit: i64,
    ) -> Result<Vec<WholeEvent>, StoreFault> {
        // Store::last_audit_events
        // Planned anew each time: what is not given is then no condition at all.
        const SQL: &str = concat!(
            "select ",
            whole_columns!(),
            "
            from vault.audit_events
            where ($1::text is null or developer_id = $1)
              and ($2::text is null or pg_catalog.left(principal_id, 64) = pg_catalog.left($2, 64) and principal_id = $2)
              and ($3::text is null or service_key = $3)
              and ($4::text is null or credential_id = $4)
              and ($5::text is null or grant_id = $5)
              and ($6::text is null or outcome = $6)
              and ($7::timestamptz is null or id >= vault.ulid_of($7))
              and ($8::timestamptz is null or id < vault.ulid_of($8))
            order by era desc, xid desc, id desc limit $9"
        );
        let parameters: [&(dyn ToSql + Sync); 9] = [
            &look.developer,
            &look.principal,
            &look.service_key,
            &look.credential,
            &look.grant,
            &look.outcome,
            &look.from,
            &look.to,
            &limit,
        ];
        let connection = self.connection().await?;
        let work = connection.client().query(SQL, &parameters);
        let rows = patiently(&connection.progress, work).await?;
        rows.iter().map(whole).collect()
    }
}
