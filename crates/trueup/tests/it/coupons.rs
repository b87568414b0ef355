//! Coupons by the gateways' admin API, as operators handle them.

use domain::coupon::Admission;
use testkit::{World, request};
use trueup_cli::exit::Exit;

use crate::{
    drill::Gateway,
    support::{audited, decided, environment, json, start_consumer, trueup},
};

const TOKEN: &str = "an-operator-token-that-only-tests-know";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_lives_from_define_to_end() {
    let world = World::new("coupons").await;
    let code = world.coupon("life");
    let consumer = start_consumer(&world).await;
    let gateway = Gateway::start_with(&world, &[("ADMIN__TOKENS", &format!("ann:{TOKEN}"))]).await;
    let mut environment = environment(&world);
    // A gateway that is down is passed over.
    let down = format!("http://127.0.0.1:{}", stack::ports::free().unwrap());
    environment.insert("TRUEUP__GATEWAYS".to_owned(), format!("{down},{}", gateway.url));
    let code = code.as_str();
    let refused = trueup(&environment, &["coupon", "list"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("TRUEUP__ADMIN__TOKEN"), "{}", text(&refused.stderr));
    environment.insert("TRUEUP__ADMIN__TOKEN".to_owned(), TOKEN.to_owned());
    let run = async |arguments: &[&str]| {
        let output = trueup(&environment, arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        output
    };

    let define = ["coupon", "define", code, "--admission", "queued", "--total", "10", "--name", "Spring sale", "--json"];
    let defined = json(&run(&define).await);
    assert_eq!(
        (defined["status"].as_str(), defined["coupon"]["totalQuantity"].as_i64()),
        (Some("accepted"), Some(10)),
        "{defined}"
    );
    let again = trueup(&environment, &define).await;
    assert_eq!((again.status.code(), json(&again)["code"].as_str()), (Some(1), Some("already_defined")));
    let listed = text(&run(&["coupon", "list"]).await.stdout);
    assert!(listed.contains(code) && listed.contains("Spring sale") && listed.contains("ACTIVE"), "{listed}");
    let shown = json(&run(&["coupon", "show", code, "--json"]).await);
    assert_eq!(shown["admission"].as_str(), Some(Admission::Queued.as_str()));

    run(&["coupon", "change", code, "--total", "12", "--closes-at", "2099-01-01T00:00:00Z"]).await;
    let changed = json(&run(&["coupon", "change", code, "--closes-at", "none", "--name", "Summer sale", "--json"]).await);
    assert_eq!(changed["coupon"]["totalQuantity"], 12, "{changed}");
    assert!(changed["coupon"].get("closesAt").is_none() && changed["coupon"]["name"] == "Summer sale", "{changed}");
    assert_eq!(json(&run(&["coupon", "pause", code, "--json"]).await)["coupon"]["status"], "PAUSED");
    assert_eq!(json(&run(&["coupon", "resume", code, "--json"]).await)["coupon"]["status"], "ACTIVE");
    let ahead = request(&domain::ids::CouponCode::new(code).unwrap(), 1);
    let cancel = ["coupon", "cancel", code, &ahead.id.to_string(), "--member", ahead.member.as_str()];
    run(&cancel).await;
    let twice = trueup(&environment, &cancel).await;
    assert!(twice.status.code() == Some(1) && text(&twice.stderr).contains("already_decided"), "{}", text(&twice.stderr));
    assert_eq!(json(&run(&["coupon", "end", code, "--json"]).await)["coupon"]["status"], "ENDED");
    let late = trueup(&environment, &["coupon", "change", code, "--total", "20"]).await;
    assert!(late.status.code() == Some(1) && text(&late.stderr).contains("ended"), "{}", text(&late.stderr));

    let history = json(&run(&["coupon", "history", code, "--json"]).await);
    let history: Vec<(&str, &str)> =
        history.as_array().unwrap().iter().map(|row| (row["kind"].as_str().unwrap(), row["outcome"].as_str().unwrap())).collect();
    let (accepted, refused) = ("accepted", "already_defined");
    let expected = [
        ("define", accepted),
        ("define", refused),
        ("change", accepted),
        ("change", accepted),
        ("change", accepted),
        ("change", accepted),
        ("cancel", accepted),
        ("cancel", "already_decided"),
        ("change", accepted),
        ("change", "ended"),
    ];
    assert_eq!(history, expected);
    assert!(text(&run(&["coupon", "history", code]).await.stdout).contains("ann"));
    decided(&world).await;
    let report = audited(&world, &domain::ids::CouponCode::new(code).unwrap()).await;
    assert_eq!(report.exit(), Exit::Done, "{}", report.render());
    consumer.stop().await;
}
