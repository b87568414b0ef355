//! Steps at which a drill interferes, in builds that have them, and nothing of it in builds that have not.

use testkit::World;

use crate::gateway::Gateway;

#[cfg(not(feature = "failpoints"))]
#[tokio::test]
async fn a_build_for_use_has_no_failpoints() {
    let world = World::new("no-failpoints").await;
    let gateway = Gateway::start(&world).await;
    for path in ["/failpoints", "/failpoints/gateway.append.before", "/clock-offset-ms"] {
        let answer = gateway.client.get(format!("{}{path}", gateway.url)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[cfg(feature = "failpoints")]
mod with {
    use std::path::Path;

    use domain::coupon::Admission;
    use testkit::eventually;

    use super::*;
    use crate::gateway::{SOON, accepted, define, open_gate, requests_in};

    #[test]
    fn every_step_is_declared_used_and_documented() {
        let names: Vec<&str> = coupon_gateway::failpoints::STEPS.iter().map(|step| step.name).collect();
        testkit::failpoints::hold(&names, &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "gateway.");
    }

    #[tokio::test]
    async fn an_answer_of_the_gate_is_lost_and_asking_again_heals_it() {
        let world = World::new("failpoints").await;
        let coupon = world.coupon("lost");
        let partition = define(&world, &coupon, Admission::Reserved, 5).await;
        let gate = open_gate(&world.redis_url, &coupon, 5).await;
        let gateway = Gateway::start_with(&world, &[("GATE__WHEN_COLD", "refuse")]).await;
        let points = gateway.process.failpoints();
        points.plan("gateway.append.acknowledged", "1*fail").unwrap();
        let unknown = gateway.ask(&coupon, "alice").await;
        assert_eq!(unknown.problem(), (503, "append_unknown".to_owned()));
        let again = accepted(&gateway.ask(&coupon, "alice").await);
        assert_eq!(again["requestId"], unknown.json()["requestId"]);
        let in_log = requests_in(&world, partition).await;
        assert_eq!(in_log.len(), 2, "the first append was in the log, too: {in_log:?}");
        assert_eq!(in_log[0].id, in_log[1].id);
        let step = points.step("gateway.append.acknowledged").unwrap();
        assert_eq!((step.hits, step.fired, step.waiting), (2, 1, 0));
        assert_eq!(gate.status(&coupon).await.unwrap().pending, 1);
    }

    #[tokio::test]
    async fn a_paused_request_holds_up_nobody_else() {
        let world = World::new("failpoints-pause").await;
        let coupon = world.coupon("pause");
        define(&world, &coupon, Admission::Queued, 5).await;
        let gateway = Gateway::start_with(&world, &[("HTTP__WORKERS", "1")]).await;
        let points = gateway.process.failpoints();
        points.plan("gateway.append.before", "1*pause").unwrap();
        let url = format!("{}/v1/coupons/{coupon}/requests", gateway.url);
        let post = gateway.client.post(url).header("content-type", "application/json").body(r#"{"memberId":"alice"}"#);
        let alice = tokio::spawn(post.send());
        eventually(SOON, "alice is paused", || async { points.step("gateway.append.before").unwrap().waiting == 1 }).await;
        accepted(&gateway.ask(&coupon, "bob").await);
        assert!(!alice.is_finished());
        points.clear("gateway.append.before").unwrap();
        assert_eq!(alice.await.unwrap().unwrap().status(), 202);
    }

    #[tokio::test]
    async fn a_step_kills_the_process_and_a_wrong_plan_is_refused() {
        let world = World::new("failpoints-kill").await;
        let coupon = world.coupon("kill");
        let partition = define(&world, &coupon, Admission::Queued, 5).await;
        let mut gateway = Gateway::start(&world).await;
        let points = gateway.process.failpoints();
        for (step, plan, told) in [
            ("gateway.append.befor", "pause", "no step"),
            ("gateway.append.before", "panic", "no plan"),
            ("gateway.release.before", "fail", "nothing can fail"),
        ] {
            let error = format!("{:#}", points.plan(step, plan).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
        points.plan("gateway.append.acknowledged", "kill").unwrap();
        let url = format!("{}/v1/coupons/{coupon}/requests", gateway.url);
        let post = gateway.client.post(url).header("content-type", "application/json").body(r#"{"memberId":"alice"}"#);
        assert!(post.send().await.is_err(), "no answer");
        eventually(SOON, "the process is gone", || std::future::ready(!gateway.process.process().is_running())).await;
        assert_eq!(requests_in(&world, partition).await.len(), 1);
    }

    #[tokio::test]
    async fn a_clock_that_is_off_does_not_open_a_coupon() {
        let world = World::new("failpoints-clock").await;
        let coupon = world.coupon("clock");
        define(&world, &coupon, Admission::Queued, 5).await;
        let opens = format!("UPDATE coupon SET opens_at = now() + interval '30 minutes' WHERE coupon_code = '{coupon}'");
        crate::gateway::sql(&world, &opens).await;
        let gateway = Gateway::start(&world).await;
        assert_eq!(gateway.ask(&coupon, "alice").await.problem(), (403, "not_open".to_owned()));
        gateway.process.failpoints().set_clock_offset_ms(3_600_000).unwrap();
        // Its window is only its own guess of queued coupons: now the gateway lets the request through, and the log judges it.
        let late = gateway.ask(&coupon, "alice").await;
        assert_eq!(late.status, 202, "{}", late.text);
    }
}
