//! Who a member is: by a proxy's header, by a token, and what the others may not see.

use std::{
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use domain::{coupon::Admission, ids::CouponCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{TestFolder, World, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    time::timeout,
};

use crate::{
    gateway::{Answer, Gateway, SOON, accepted, define},
    openapi_contract::call,
};

const SECRET: &str = "a-token-secret-that-only-tests-know!";
const AUDIENCE: (&str, &str) = ("IDENTITY__JWT__AUDIENCE", "coupons");
const ISSUER: (&str, &str) = ("IDENTITY__JWT__ISSUER", "https://login.example");
const JWT: (&str, &str) = ("IDENTITY__MODE", "jwt");

fn claims(member: &str, expires_in_s: i64) -> Value {
    #[allow(clippy::disallowed_methods, reason = "the gateway is a real process with a real clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    json!({"sub": member, "aud": "coupons", "iss": "https://login.example", "exp": now + expires_in_s})
}

fn token(member: &str) -> String {
    encode(&Header::new(Algorithm::HS256), &claims(member, 60), &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// The key pair of a seed, as PKCS#8.
fn ed25519(seed: u8) -> EncodingKey {
    let mut der = vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend([seed; 32]);
    EncodingKey::from_ed_der(&der)
}

fn jwks(keys: &[(&str, &EncodingKey)]) -> String {
    let keys: Vec<Jwk> = keys
        .iter()
        .map(|(id, key)| {
            let mut jwk = Jwk::from_encoding_key(key, Algorithm::EdDSA).unwrap();
            jwk.common.key_id = Some((*id).to_owned());
            jwk
        })
        .collect();
    json!({"keys": keys}).to_string()
}

fn signed(key: &EncodingKey, id: &str, member: &str) -> String {
    let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::EdDSA) };
    encode(&header, &claims(member, 60), key).unwrap()
}

async fn ask(gateway: &Gateway, coupon: &CouponCode, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = headers.to_vec();
    if !body.is_empty() {
        all.push(("content-type", "application/json"));
    }
    call(gateway, Method::POST, &format!("/v1/coupons/{coupon}/requests"), &all, body).await
}

async fn ask_with(gateway: &Gateway, coupon: &CouponCode, token: &str) -> Answer {
    ask(gateway, coupon, &[("authorization", &format!("Bearer {token}"))], "").await
}

/// Everything that is a member's own, asked for by himself and by somebody else.
async fn is_kept_private(gateway: &Gateway, coupon: &CouponCode, own: &[(&str, &str)], other: &[(&str, &str)]) {
    let asked = accepted(&ask(gateway, coupon, own, r#"{"memberId":"user-1"}"#).await);
    assert_eq!(asked["memberId"], "user-1");
    let without_body = accepted(&ask(gateway, coupon, own, "").await);
    assert_eq!(without_body["memberId"], "user-1", "the body may leave the member out");
    let status = asked["statusUrl"].as_str().unwrap();
    let paths = [
        status.to_owned(),
        format!("{status}/events"),
        format!("/v1/coupons/{coupon}/members/user-1"),
        "/v1/members/user-1/coupons".to_owned(),
    ];
    for path in &paths {
        let not_yours = call(gateway, Method::GET, path, other, "").await;
        assert_eq!(not_yours.problem(), (403, "not_yours".to_owned()), "{path}");
        assert_eq!(call(gateway, Method::GET, path, &[], "").await.problem(), (401, "unauthorized".to_owned()), "{path}");
        if !path.ends_with("/events") {
            assert_eq!(call(gateway, Method::GET, path, own, "").await.status, 200, "{path}");
        }
    }
    let for_another = ask(gateway, coupon, other, r#"{"memberId":"user-1"}"#).await;
    assert_eq!(for_another.problem(), (403, "not_yours".to_owned()));
    assert_eq!(ask(gateway, coupon, &[], r#"{"memberId":"user-1"}"#).await.problem(), (401, "unauthorized".to_owned()));
    let public = call(gateway, Method::GET, &format!("/v1/coupons/{coupon}"), &[], "").await;
    assert_eq!(public.status, 200, "a coupon is nobody's own");
}

#[tokio::test]
async fn a_proxys_header_names_the_member() {
    let world = World::new("header").await;
    let coupon = world.coupon("header");
    define(&world, &coupon, Admission::Queued, 10).await;
    let gateway = Gateway::start_with(&world, &[("IDENTITY__MODE", "header"), ("IDENTITY__HEADER", "X-User")]).await;
    is_kept_private(&gateway, &coupon, &[("x-user", "user-1")], &[("x-user", "user-2")]).await;

    let settings = [("IDENTITY__MODE", "header"), ("IDENTITY__TRUSTED_PROXIES", "192.0.2.0/24")];
    let gateway = Gateway::start_with(&world, &settings).await;
    let stranger = ask(&gateway, &coupon, &[("x-member-id", "user-1")], "").await;
    assert_eq!(stranger.problem(), (401, "unauthorized".to_owned()), "the header of a peer that is no proxy");
}

#[tokio::test]
async fn a_tokens_subject_is_the_member() {
    let world = World::new("jwt").await;
    let coupon = world.coupon("jwt");
    define(&world, &coupon, Admission::Queued, 10).await;
    let settings = [
        JWT,
        AUDIENCE,
        ISSUER,
        ("IDENTITY__JWT__SECRET", SECRET),
        ("IDENTITY__JWT__LEEWAY_S", "5"),
        ("TELEMETRY__LOG_FILTER", "trace"),
    ];
    let mut gateway = Gateway::start_with(&world, &settings).await;
    let (own, other) = (format!("Bearer {}", token("user-1")), format!("bearer {}", token("user-2")));
    is_kept_private(&gateway, &coupon, &[("authorization", &own)], &[("authorization", &other)]).await;

    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let old = encode(&Header::new(Algorithm::HS256), &claims("user-1", -6), &key).unwrap();
    assert_eq!(ask_with(&gateway, &coupon, &old).await.problem(), (401, "token_expired".to_owned()));
    let hardly = encode(&Header::new(Algorithm::HS256), &claims("user-1", -1), &key).unwrap();
    assert_eq!(ask_with(&gateway, &coupon, &hardly).await.status, 202, "within the leeway");
    let longer = encode(&Header::new(Algorithm::HS512), &claims("user-1", 60), &key).unwrap();
    let forged = encode(&Header::new(Algorithm::HS256), &claims("user-1", 60), &EncodingKey::from_secret(b"guessed")).unwrap();
    for (bad, what) in [(longer.as_str(), "another algorithm"), (forged.as_str(), "another secret"), ("nonsense", "no token")] {
        assert_eq!(ask_with(&gateway, &coupon, bad).await.problem(), (401, "unauthorized".to_owned()), "{what}");
    }
    let written = gateway.log();
    for secret in [SECRET, &own["Bearer ".len()..], &old, &forged] {
        assert!(!written.contains(secret), "a secret or token is in the log");
    }
}

/// Serves one body to whoever asks, and counts.
async fn key_server(body: Arc<Mutex<String>>) -> (String, Arc<Mutex<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let body = body.lock().unwrap().clone();
            *count.lock().unwrap() += 1;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    (url, asked)
}

#[tokio::test]
async fn keys_come_from_an_address_and_are_read_again_within_bounds() {
    let world = World::new("jwks").await;
    let coupon = world.coupon("jwks");
    define(&world, &coupon, Admission::Queued, 10).await;
    let (first, second) = (ed25519(1), ed25519(2));
    let body = Arc::new(Mutex::new("not yet".to_owned()));
    let (url, asked) = key_server(Arc::clone(&body)).await;
    let settings = [
        JWT,
        AUDIENCE,
        ISSUER,
        ("IDENTITY__JWT__ALGORITHM", "EdDSA"),
        ("IDENTITY__JWT__JWKS_URL", &url),
        ("IDENTITY__JWT__REFRESH_MIN_S", "1"),
    ];
    let gateway = Gateway::start_with(&world, &settings).await;
    let token_1 = signed(&first, "k1", "user-1");
    assert_eq!(ask_with(&gateway, &coupon, &token_1).await.problem(), (503, "identity_unavailable".to_owned()));

    *body.lock().unwrap() = jwks(&[("k1", &first)]);
    eventually(SOON, "keys", || async { ask_with(&gateway, &coupon, &token_1).await.status == 202 }).await;
    // An unknown key makes the keys be read again, but never more often than set.
    let token_2 = signed(&second, "k2", "user-2");
    let before = *asked.lock().unwrap();
    let began = std::time::Instant::now();
    for _ in 0..200 {
        assert_eq!(ask_with(&gateway, &coupon, &token_2).await.problem(), (401, "unauthorized".to_owned()));
    }
    let readings = u64::from(*asked.lock().unwrap() - before);
    assert!(readings <= began.elapsed().as_secs() + 1, "{readings} readings in {:?}", began.elapsed());
    *body.lock().unwrap() = jwks(&[("k1", &first), ("k2", &second)]);
    eventually(SOON, "the new key", || async { ask_with(&gateway, &coupon, &token_2).await.status == 202 }).await;
    // A reading that fails leaves the keys as they are.
    *body.lock().unwrap() = "broken".to_owned();
    let before = *asked.lock().unwrap();
    eventually(SOON, "another reading", || async {
        ask_with(&gateway, &coupon, &signed(&first, "k9", "user-1")).await;
        *asked.lock().unwrap() > before
    })
    .await;
    assert_eq!(ask_with(&gateway, &coupon, &token_1).await.status, 202);
    // A key's id does not make a signature hold, and the public key is no secret of HS256.
    assert_eq!(ask_with(&gateway, &coupon, &signed(&second, "k1", "user-1")).await.status, 401);
    let confused = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
    let public = jwks(&[("k1", &first)]);
    let confused = encode(&confused, &claims("user-1", 60), &EncodingKey::from_secret(public.as_bytes())).unwrap();
    assert_eq!(ask_with(&gateway, &coupon, &confused).await.status, 401);
}

#[tokio::test]
async fn keys_come_from_a_file() {
    let world = World::new("keyfile").await;
    let coupon = world.coupon("keyfile");
    define(&world, &coupon, Admission::Queued, 10).await;
    let folder = TestFolder::new("keys");
    let path = folder.path().join("jwks.json");
    let key = ed25519(3);
    std::fs::write(&path, jwks(&[("k3", &key)])).unwrap();
    let path = path.to_str().unwrap().to_owned();
    let settings = [JWT, AUDIENCE, ISSUER, ("IDENTITY__JWT__ALGORITHM", "EdDSA"), ("IDENTITY__JWT__JWKS_FILE", &path)];
    let gateway = Gateway::start_with(&world, &settings).await;
    assert_eq!(ask_with(&gateway, &coupon, &signed(&key, "k3", "user-3")).await.status, 202);
    assert_eq!(ask_with(&gateway, &coupon, &signed(&ed25519(4), "k3", "user-3")).await.status, 401);
}

#[tokio::test]
async fn every_faulty_setting_is_told_at_once_and_no_secret_with_it() {
    const SHORT: &str = "short-secret-4711";
    let settings = [
        ("HTTP__LISTEN", "127.0.0.1:0"),
        JWT,
        ("IDENTITY__JWT__SECRET", SHORT),
        ("IDENTITY__JWT__LEEWAY_S", "3600"),
        ("IDENTITY__JWT__REFRESH_S", "0"),
        ("LIMITS__MEMBER_BURST", "0"),
        ("LIMITS__TRUSTED_PROXIES", "everybody"),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_coupon-gateway"));
    command.envs(settings.map(|(name, value)| (format!("COUPON_GATEWAY__{name}"), value))).kill_on_drop(true);
    let ended = timeout(SOON, command.output()).await.expect("it must not start").unwrap();
    assert!(!ended.status.success());
    let told = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    for name in [
        "IDENTITY__JWT__SECRET",
        "IDENTITY__JWT__AUDIENCE",
        "IDENTITY__JWT__ISSUER",
        "IDENTITY__JWT__LEEWAY_S",
        "IDENTITY__JWT__REFRESH_S",
        "LIMITS__MEMBER_BURST",
        "LIMITS__TRUSTED_PROXIES",
    ] {
        assert!(told.contains(&format!("COUPON_GATEWAY__{name}")), "{name} is not told: {told}");
    }
    assert!(!told.contains(SHORT), "{told}");
}
