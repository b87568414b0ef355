//! What a reservation costs the server.

use redis_io::Reserve;

use crate::server::{RESERVED, Server, code, member, open, request, rules, timeless};

/// Redis is one thread: a microsecond more for each member is a bound on the whole line. The limit is far above what is
/// measured (printed with `--nocapture`), so that it catches a command per member and not a busy machine.
const RESERVE_US_PER_MEMBER_MAX: f64 = 15.0;
const BATCHES: u32 = 200;
const BATCH: u32 = 100;

async fn evalsha_us(server: &Server) -> f64 {
    let stats: String = server.command(&["INFO", "commandstats"]).await;
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).expect("EVALSHA was called");
    let usec = line.split(',').find_map(|field| field.strip_prefix("usec=")).unwrap();
    usec.parse().unwrap()
}

#[tokio::test]
async fn a_batch_of_a_hundred_costs_little_for_each() {
    let server = Server::start_with(&["--appendfsync", "everysec"]).await;
    let gate = server.gate().await;
    let coupon = code("c");
    let seats = BATCH * BATCHES;
    open(&gate, &coupon, &rules(i64::from(seats))).await;

    let mut costs = Vec::new();
    for (name, first, expected) in [("new", 0, Some(RESERVED)), ("pending", 0, None), ("sold out", seats, Some(Reserve::SoldOut))]
    {
        server.command::<()>(&["CONFIG", "RESETSTAT"]).await;
        for batch in 0..BATCHES {
            let from = first + batch * BATCH;
            let asks: Vec<_> = (from..from + BATCH).map(|n| (member(n), request(n))).collect();
            let answers = timeless(gate.reserve(&coupon, &asks).await.unwrap());
            for (answer, (_, id)) in answers.iter().zip(&asks) {
                assert_eq!(*answer, expected.unwrap_or(Reserve::Pending(*id)));
            }
        }
        costs.push((name, evalsha_us(&server).await / f64::from(seats)));
    }
    for (name, us) in &costs {
        println!("{name}: {us:.2} µs of Redis per member, batches of {BATCH}");
        assert!(*us < RESERVE_US_PER_MEMBER_MAX, "{name}: {us:.2} µs");
    }
}
