//! How fast it starts, and what memory it needs.

use std::{fs, path::Path, time::Duration};

use tokio::time::sleep;

use crate::{
    MOST_CLIENTS,
    instance::Dev,
    population::{Requests, Transport},
    report::{Look, StartAndSize},
    server::{Keys, Server},
    wrk,
};

/// Starts it again and again, and looks what it needs when it has nothing to do.
pub(crate) async fn of_starts(dev: &Dev, starts: usize) -> StartAndSize {
    eprintln!("start and size");
    let (mut cold_start_ms, mut idle_resident_mib) = (Vec::new(), Vec::new());
    for _ in 0..starts {
        let server = Server::start(dev, Keys::Cached).await;
        cold_start_ms.push(server.started_in.as_secs_f64() * 1000.0);
        sleep(Duration::from_secs(1)).await;
        idle_resident_mib.push(server.memory().resident);
    }
    let binary = fs::metadata(env!("CARGO_BIN_EXE_grantex-vault")).expect("it runs");
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    let binary_mib = binary.len() as f64 / f64::from(1 << 20);
    StartAndSize {
        binary_mib,
        cold_start_ms,
        idle_resident_mib,
        under_load: Vec::new(),
        endurance: Vec::new(),
    }
}

/// Has one process serve so many exchanges, and looks at its memory every two of these times.
pub(crate) async fn of_one(
    server: &Server,
    directory: &Path,
    exchanges: &Requests,
    requests: f64,
    time: Duration,
) -> Vec<Look> {
    let url = format!("http://{}", server.address(Transport::Http));
    let look = |requests| Look {
        requests,
        resident_mib: server.memory().resident,
    };
    let mut looks = vec![look(0.0)];
    let mut all = 0.0;
    while all < requests {
        eprintln!("{all:.0} of {requests:.0} exchanges by one process");
        let load = wrk::run(directory, &url, MOST_CLIENTS, exchanges, 0, 2 * time);
        all += load.await.requests;
        looks.push(look(all));
    }
    looks
}
