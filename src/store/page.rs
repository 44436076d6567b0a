//! Pages of rows, in bounded memory.

use std::pin::{Pin, pin};

use futures_util::TryStreamExt;
use tokio_postgres::{Row, RowStream};

use super::Query;

/// Bytes of rows after which a page ends early, so that a list's memory is bounded whatever its rows
/// carry.
const BUDGET_BYTES: usize = 512 * 1024;

/// How many rows a statement is asked for: one more than the page tells whether there is another page.
pub(super) fn limit(size: usize) -> i64 {
    i64::try_from(size + 1).unwrap_or(i64::MAX)
}

/// Takes rows until the page or its budget is full, and says whether there are more.
pub(super) async fn collect(rows: RowStream, size: usize) -> Query<(Vec<Row>, bool)> {
    let mut rows: Pin<&mut RowStream> = pin!(rows);
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        if page.len() == size || bytes >= BUDGET_BYTES {
            return Ok((page, true));
        }
        bytes += row.raw_size_bytes();
        page.push(row);
    }
    Ok((page, false))
}
